"""fashion_lightning/results.py: what a run says about where it came from."""

import subprocess

from fashion_lightning import results


def test_the_commit_is_dirty_if_the_package_was_changed_and_only_then(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], capture_output=True, text=True, check=True
        )

    package, readme = tmp_path / "package" / "results.py", tmp_path / "README.md"
    package.parent.mkdir()
    monkeypatch.setattr(results, "__file__", str(package))
    assert results._git_commit() is None
    package.write_text("a")
    readme.write_text("a")
    for command in (("init",), ("add", "."), ("commit", "-m", "all")):
        git(*command)
    commit = git("rev-parse", "HEAD").stdout.strip()
    readme.write_text("b")
    assert results._git_commit() == commit
    package.write_text("b")
    assert results._git_commit() == f"{commit}-dirty"
