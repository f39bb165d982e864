from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from dnntrain import interruption
from dnntrain.errors import Interrupted


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in interruption.SIGNALS]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_is_noted_and_found_when_asked_for(number: int, code: int) -> None:
    before = handlers()
    with interruption.listening():
        interruption.check()
        signal.raise_signal(number)
        with pytest.raises(Interrupted) as caught:
            interruption.check()
    assert caught.value.exit_code == code
    assert not caught.value.at_once
    assert handlers() == before
    interruption.check()  # nothing is left of it


def test_a_second_signal_does_not_wait() -> None:
    with interruption.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGTERM)
    assert caught.value.at_once
    assert caught.value.number == signal.SIGTERM


def test_handlers_come_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(KeyError), interruption.listening():
        raise KeyError
    assert handlers() == before


def test_an_inner_block_leaves_the_outer_one_alone() -> None:
    with interruption.listening():
        with interruption.listening():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            interruption.check()


def test_another_thread_cannot_listen_and_works_all_the_same() -> None:
    before, entered = handlers(), []

    def work() -> None:
        with interruption.listening():
            entered.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [before]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_dies_as_usual() -> None:
    with interruption.listening():
        signal.raise_signal(signal.SIGTERM)
        child = os.fork()
        if child == 0:
            interruption.check()  # what was asked of the parent was not asked of the child
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGTERM


def test_the_end_can_be_asked_for_without_a_signal() -> None:
    interruption.ask(signal.SIGTERM)
    with interruption.listening():
        interruption.check()
        threading.Thread(target=interruption.ask, args=(signal.SIGTERM,)).start()
        with pytest.raises(Interrupted, match="SIGTERM") as caught:
            interruption.sleep(20)
        assert not caught.value.at_once
