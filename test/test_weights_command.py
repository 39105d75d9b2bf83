"""superpoint-ros weights: list, info, convert and checked downloads."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading

import pytest
import torch

from superpoint_ros.cli import main
from superpoint_ros.extraction import weights


@pytest.fixture
def server(tmp_path, tiny_weights):
    """A web server on the loopback interface that serves the tiny weights."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "tiny.safetensors").write_bytes(tiny_weights.read_bytes())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/tiny.safetensors"
        running.shutdown()
        thread.join()


def test_list_names_the_known_weights(capsys):
    assert main(["weights", "list", "--json"]) == 0
    assert "default" in json.loads(capsys.readouterr().out)


def test_info_shows_layout_sizes_and_checksum(tiny_weights, capsys):
    assert main(["weights", "info", str(tiny_weights), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sha256"] == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    assert found["descriptor"] == 24
    assert found["encoder"] == "8-8-8-8-16-16-16-16"


def test_convert_writes_what_load_reads(tiny_network, tmp_path, capsys):
    source, target = tmp_path / "magicleap.pth", tmp_path / "converted.safetensors"
    torch.save({k.replace(".conv.", "."): v for k, v in tiny_network.state_dict().items()}, source)
    assert main(["weights", "convert", str(source), str(target), "--json"]) == 0
    picture = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for a, b in zip(tiny_network(picture), weights.load(target).network(picture), strict=True):
            torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


def test_fetch_keeps_a_file_only_if_its_checksum_is_correct(server, tiny_weights, tmp_path, capsys):
    pytest.importorskip("pooch", reason="downloads need the Python package pooch")
    target = tmp_path / "fetched.safetensors"
    assert main(["weights", "fetch", server, str(target), "--sha256", "0" * 64]) == 1
    assert not target.exists()
    checksum = hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    capsys.readouterr()
    assert main(["weights", "fetch", server, str(target), "--sha256", checksum, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == "superpoint"
    assert target.read_bytes() == tiny_weights.read_bytes()


def test_fetch_rejects_an_invalid_checksum(server, tmp_path, capsys):
    assert main(["weights", "fetch", server, str(tmp_path / "x.safetensors"), "--sha256", "abc"]) == 1
    assert "sha256 'abc' is not allowed" in capsys.readouterr().err
