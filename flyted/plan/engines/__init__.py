"""Engines: programs that serve language models (vLLM, SGLang, llama.cpp), one file each. Pure.

An app's command alone says which engine it runs, be it a plug-in's (``vllm-fserve serve …``) or one written out
(``command=``). The spec stays what the file says; what flyted adds for an engine, it adds to the app's unit.

To add an engine, such as TGI:

1. Write ``tgi.py`` with an :class:`~flyted.plan.engines.base.Engine`: data in its fields, and where data does not do,
   a subclass that overrides ``models``, ``key``, ``defaults``, ``environment``, ``without_gpu`` or ``check``. Name the
   sources that you read, with their version.
2. Add it to ``ENGINES`` in ``registry.py``. Nothing else in flyted asks which engine an app runs.
3. Write ``tests/plan/engines/test_tgi.py``; ``test_registry.py`` there does all of this with an engine of its own.

An engine that can sleep without ending (``Engine.sleep``) takes two more steps: its commands in
``flyted/contract/engines.py``, which ``flytectl serve --idle`` reads, and its endpoints for sleep in
``flyted/launch/engine_sleep.py``, which asks it from inside the app's unit.
"""
