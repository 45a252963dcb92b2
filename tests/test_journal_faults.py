"""Runs that are killed, interrupted, out of space or cut off, in processes of their own."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from paid import Shop

NewShop = Callable[..., Shop]


@pytest.fixture
def new_shop(tmp_path: Path) -> NewShop:
    """Makes shops, each in a folder of its own."""
    shops: list[Shop] = []

    def make(options: Sequence[str] = (), method: Sequence[str] = ()) -> Shop:
        folder = tmp_path / f"shop{len(shops)}"
        folder.mkdir()
        shops.append(Shop(folder, options, method))
        return shops[-1]

    return make


# --- Killed -----------------------------------------------------------------------------------

SETTINGS = {
    "likelihood": (["--scoring", "likelihood"], ["--num_repeat", "2"]),
    "final round": (["--scoring", "generation"], ["--final_round", "5", "--overlap", "2"]),
    "until stable": ([], ["--num_repeat", "6", "--until_stable", "2"]),
}
KILLS = {
    "likelihood": ["before 1", "after 1", "before 7", "after 9", "after 9 later 5", "after 9"],
    "final round": ["after 9 later 1", "after 2 later 200"],
    "until stable": ["after 9 later 30", "before 20"],
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(new_shop, settings):
    whole, killed = new_shop(*SETTINGS[settings]), new_shop(*SETTINGS[settings])
    assert whole.run().returncode == 0
    assert len(set(whole.paid)) == len(whole.paid) > 36
    in_flight = 0
    for ends in KILLS[settings]:
        before, kept_before = len(killed.paid), killed.kept()
        ended = killed.run(ends=f"SIGKILL {ends}")
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not killed.out.exists()
        new, kept = killed.paid[before:], killed.kept()
        assert not kept_before & set(new), "an answer was kept and asked for again"
        assert kept_before <= kept, "an answer was lost"
        in_flight += len(set(new) - kept)
    assert killed.kept(), "the kills came too early to prove anything"
    ended = killed.run()
    assert ended.returncode == 0, ended.stderr
    assert killed.out.read_bytes() == whole.out.read_bytes()
    assert set(killed.paid) == set(whole.paid)
    assert len(killed.paid) <= len(whole.paid) + in_flight
    again = len(killed.paid)
    assert killed.run().returncode == 0
    assert len(killed.paid) == again
    assert killed.out.read_bytes() == whole.out.read_bytes()
