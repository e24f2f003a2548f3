"""Decides about images: translates ImageSpecs and Dockerfiles, plans layers, and defines the units that build.

A root image is a stack of layers. A build asks the registry which image a name currently stands for, names its layers
by what they are made of, and builds those without a record, in order; the layers below a failed step are kept. An
image, each of its layers, and each pull are actions of the plan (``BuildImage``, ``MakeLayer``, ``PullImage``): each
runs once at a time, and is cancelled when no client waits for it any more: then its unit is stopped, and unfinished
results are removed. So Ctrl-C, a lost connection, and ``app stop`` end a build, unless another client waits for the
same action; a deploy that is cancelled so early has changed nothing. Once its app is being started, it continues.
When flyted itself ends, units keep running (``daemon/images/builds.py``). If flyted is killed, the unit of a step
ends by itself, and the step is done again, since only flyted records it: the layer in
``/var/lib/flyted/roots/layers``, then the image in ``/var/lib/flyted/roots``. Unused layers are removed like unused
images, by a unit that is root of the same namespace: first the record, then the folder.

The logins of a registry are a secret like others: a credential of the unit that pulls, and of no step. A user with
another login does not wait for the same pull, but asks the registry again, so nobody gets an image by another user's
login. A registry that did not answer is not asked again for ten minutes if there is a substitute for its answer: the
image that the name stood for last, or a Debian. What a name stood for, and with which login, is in
``daemon/images/known.py``. Doctor has the mirrors of registries asked by the same program, in a unit with even fewer
rights.

A record is flushed with its name and its folder, the image's after those of its layers, so after a power failure no
incomplete layer or image counts as complete.

``image pull NAME`` makes an image without steps of its own, the same that an app with ``image=NAME`` gets, so it is
recorded, listed and kept like any other. ``image rebuild`` gives the first steps whose result ages new ids, and those
above them follow (``renewed.py``). The old layers stay. Once the new image is complete, one file that says which ids
count is replaced: a kill before that changes nothing; after it each deploy of the recipe gets the new image, as do
images that begin with the same layers. Then the apps are deployed as usual. If none of them starts, the file is
restored. ``image prune`` requests the removal of all that is unused now, by the same decision (``unused.py``). Since
a week's delay then protects nothing any more, the used images include those of revisions that finish their last
requests, and all layers that are mounted, by any process.
"""
