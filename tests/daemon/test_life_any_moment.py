"""What is asked for, or killed, at any moment of a rebuild or prune, on the machine of ``life.py``: many stories."""

from __future__ import annotations

import pytest

from tests.daemon.life import Life
from tests.daemon.rest import rest
from tests.daemon.test_life_prune import of
from tests.daemon.test_life_rebuild import rebuild, serving, two_apps
from tests.daemon.test_life_roots import serve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("after_s", [0.5, 2, 4, 6, 9, 12, 15, 18, 18.2, 18.5, 19, 19.5, 20, 21, 23])
def test_a_daemon_that_is_killed_in_a_rebuild_serves_the_old_image_or_the_new(life: Life, after_s: float) -> None:
    """Whatever it was about to do; the rebuild can be asked for again."""
    old = two_apps(life)
    rebuild(life, old)
    life.run(after_s)
    life.end(killed=True)
    life.start()
    life.run(30)
    for app in "ab":
        assert life.request(app).end == ""
    life.run(5)
    images = {app: life.running.store.app(app).revision(serving(life, app)).image for app in "ab"}  # type: ignore[union-attr]
    assert all(map(life.running.images.present, images.values()))
    for image in {image.hash for image in images.values()}:
        again = rebuild(life, image)
        life.run(60)
        assert again.end == "done", again.end
    for app in "ab":
        assert serve(life, app, "one")
        life.run(60)
        assert of(life, app) != old
    life.ask("image.prune")
    life.run(5)
    rest(life)


def test_a_deploy_beside_a_rebuild_gets_one_of_the_two_images(life: Life) -> None:
    """Of the same image, by another app or the same, at any moment; a prune takes neither from them."""
    for moment in (0.0, 1.0, 4.0, 8.0, 12.0, 16.0, 18.0, 20.0):
        serve(life, "a", "one")
        life.run(60)
        old = of(life, "a")
        asked = rebuild(life, old)
        life.run(moment)
        others = [serve(life, app, "one") for app in "ba"]
        pruned = life.ask("image.prune")
        life.run(90)
        assert pruned.end == others[0].end == "done"
        assert asked.end == "done" or asked.end.startswith("DeployFailed"), asked.end
        assert others[1].end == "done" or others[1].end.startswith("Busy"), others[1].end
        for app in "ab":
            image = life.running.store.app(app).current
            assert image is not None
            assert life.running.images.present(image.image)
        serve(life, "b", "one")
        life.run(60)
    rest(life)


def test_a_deploy_beside_a_prune_gets_a_whole_image(life: Life) -> None:
    """Whichever comes first, by a fraction of a second."""
    for number in range(12):
        serve(life, "a", "one")
        life.run(60)
        life.call("delete", "a", keep_data=False)
        life.run(5)
        life.world.job_s = 0.2
        first = life.ask("image.prune") if number % 2 else None
        life.run(number / 10)
        asked = serve(life, "a", "one")
        life.run(number / 10)
        second = life.ask("image.prune")
        life.run(60)
        life.world.job_s = 0.01
        assert (asked.end, second.end, first.end if first else "done") == ("done",) * 3
        image = life.running.store.app("a").revisions[-1].image
        assert life.running.images.present(image), number
        life.call("delete", "a", keep_data=False)
        life.run(5)
    rest(life)
