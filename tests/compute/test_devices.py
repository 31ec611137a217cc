import types

import pytest

from fairstem.compute import devices
from fairstem.errors import DataError, MissingDependencyError


def fake_torch(cuda=0, mps=False):
    return types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            is_available=lambda: cuda > 0,
            device_count=lambda: cuda,
            get_device_properties=lambda index: types.SimpleNamespace(total_memory=(index + 1) * 10**9),
        ),
        backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: mps)),
    )


def use(monkeypatch, torch):
    monkeypatch.setattr(devices, "_torch", lambda: torch)


@pytest.mark.parametrize(
    ("torch", "asked", "got"),
    [
        (None, "auto", "cpu"),
        (None, "cpu", "cpu"),
        (fake_torch(), "auto", "cpu"),
        (fake_torch(cuda=2), "auto", "cuda:0"),
        (fake_torch(cuda=2), "cuda", "cuda:0"),
        (fake_torch(cuda=2), "cuda:1", "cuda:1"),
        (fake_torch(cuda=1), "cpu", "cpu"),
        (fake_torch(mps=True), "auto", "mps"),
        (fake_torch(mps=True), "mps", "mps"),
    ],
)
def test_choice(monkeypatch, torch, asked, got):
    use(monkeypatch, torch)
    device = devices.choose(asked)
    assert device.name == got
    assert device.kind == got.partition(":")[0]
    assert device.why
    assert device.why in str(device)


def test_memory_is_the_devices_own(monkeypatch):
    use(monkeypatch, fake_torch(cuda=2))
    assert devices.choose("cuda:1").memory_bytes == 2 * 10**9


@pytest.mark.parametrize(
    ("torch", "asked"),
    [
        (fake_torch(), "cuda"),
        (fake_torch(cuda=1), "cuda:1"),
        (fake_torch(), "mps"),
        (fake_torch(), "tpu"),
        (None, ""),
    ],
)
def test_a_named_device_is_never_replaced(monkeypatch, torch, asked):
    use(monkeypatch, torch)
    with pytest.raises(DataError):
        devices.choose(asked)


@pytest.mark.parametrize("asked", ["cuda", "mps", "cuda:3"])
def test_without_torch_an_accelerator_names_the_extra(monkeypatch, asked):
    use(monkeypatch, None)
    with pytest.raises(MissingDependencyError, match=r"fairstem\[train\]"):
        devices.choose(asked)


def test_absent_torch_is_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert "torch" in devices.choose("auto").why
