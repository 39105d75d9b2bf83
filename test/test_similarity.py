"""Similarities: equal from every library and for every memory layout."""

from __future__ import annotations

import importlib.util
import sys
import threading

import numpy as np
import pytest
import torch

from superpoint_ros.two_view import similarity

openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def unit(rows, seed=0, size=256):
    values = np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def exact(a, b):
    return a.astype(np.float64) @ b.astype(np.float64).T


@pytest.fixture(params=[pytest.param(True, marks=openvino), False], ids=["OpenVINO", "NumPy"])
def library(request, monkeypatch):
    """Return the library that computes large products."""
    if not request.param:
        monkeypatch.setattr(similarity, "_openvino_product", lambda threads: None)


@pytest.mark.parametrize(("rows", "columns", "size"), [(1, 1, 256), (3, 900, 256), (300, 301, 24), (1000, 777, 256)])
def test_similarities_are_the_products_of_all_pairs(library, rows, columns, size):
    a, b = unit(rows, 1, size), unit(columns, 2, size)
    found = similarity.similarities(a, b)
    assert found.shape == (rows, columns) and found.dtype == np.float32
    np.testing.assert_allclose(found, exact(a, b), atol=2e-6)


def test_any_memory_layout_works(library):
    a, b = unit(300, 1), unit(300, 2)
    unaligned = np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape)
    assert not unaligned.flags.aligned and not unaligned.flags.writeable
    for rows in (unaligned, np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2]):
        np.testing.assert_allclose(similarity.similarities(rows, b), exact(a, b), atol=2e-6)


@openvino
def test_openvino_is_used_if_installed_and_otherwise_numpy(monkeypatch):
    found = similarity._openvino_product.__wrapped__
    assert found(1) is not None
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert found(1) is None


@openvino
def test_threads_do_not_interfere():
    pairs = [(unit(400 + 50 * i, i), unit(500, i + 9)) for i in range(4)]
    wrong = []

    def work(a, b):
        expected = exact(a, b)
        for _ in range(20):
            if np.abs(similarity.similarities(a, b) - expected).max() > 2e-6:
                wrong.append(len(a))

    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@openvino
def test_openvino_uses_no_more_threads_than_pytorch(monkeypatch):
    asked = []
    monkeypatch.setattr(
        similarity, "_openvino_product", lambda threads: asked.append(threads) or (lambda a, b: a @ b.T)
    )
    similarity.similarities(unit(300), unit(300))
    assert asked == [torch.get_num_threads()]
