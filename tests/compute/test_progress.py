import pytest

from fairstem.compute import progress


class Recorder(progress.Silent):
    def __init__(self):
        self.calls = []

    def start(self, label, total):
        self.calls.append(("start", label, total))
        return len(self.calls)

    def advance(self, task, steps=1):
        self.calls.append(("advance", task))

    def finish(self, task):
        self.calls.append(("finish", task))


def test_track_yields_every_item_and_reports_each_step():
    with progress.use(Recorder()) as recorder:
        assert list(progress.track("abc", label="letters")) == ["a", "b", "c"]
    assert recorder.calls == [("start", "letters", 3), *[("advance", 1)] * 3, ("finish", 1)]


def test_total_is_unknown_for_generators():
    with progress.use(Recorder()) as recorder:
        list(progress.track(k for k in range(2)))
    assert recorder.calls[0] == ("start", "", None)


def test_a_task_is_finished_when_the_loop_raises_or_breaks():
    def broken():
        yield 1
        raise ValueError("broken")

    with progress.use(Recorder()) as recorder:
        with pytest.raises(ValueError, match="broken"):
            list(progress.track(broken()))
        for _ in progress.track([1, 2]):
            break
    assert [call[0] for call in recorder.calls].count("finish") == 2


def test_reporters_nest_and_are_put_back_after_an_exception():
    outer, inner = Recorder(), Recorder()
    with progress.use(outer):
        with pytest.raises(RuntimeError), progress.use(inner):
            raise RuntimeError
        assert progress.current() is outer
    assert progress.current() is not outer


def test_silent_in_batch_and_bars_on_a_terminal(monkeypatch):
    class Stream:
        def __init__(self, terminal):
            self.isatty = lambda: terminal

    monkeypatch.setattr("sys.stderr", Stream(False))
    assert isinstance(progress.current(), progress.Silent)
    monkeypatch.setattr("sys.stderr", Stream(True))
    assert isinstance(progress.current(), progress.TerminalBars)
    monkeypatch.setattr("sys.stderr", None)
    assert isinstance(progress.current(), progress.Silent)


def test_terminal_bars_nest(capsys):
    with progress.use(progress.TerminalBars()):
        for _ in progress.track(range(2), label="outer"):
            list(progress.track(range(3), label="inner"))
    written = capsys.readouterr().err
    assert "outer" in written
    assert "inner" in written
