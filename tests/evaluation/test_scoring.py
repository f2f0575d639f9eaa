from __future__ import annotations

import threading

import torch

from passionsr_cli.evaluation.scoring import _one_thread_each


def test_two_evaluations_leave_torch_its_threads() -> None:
    inside, before = threading.Event(), torch.get_num_threads()

    def score() -> None:
        with _one_thread_each():
            inside.set()

    thread = threading.Thread(target=score)
    with _one_thread_each() as threads:
        thread.start()
        assert not inside.wait(0.2)
        assert threads == before
    thread.join()
    assert inside.is_set()
    assert torch.get_num_threads() == before
