"""storage/provenance.py: where a result came from."""

import subprocess

from fashion_lightning.storage.provenance import git_commit


def test_the_commit_is_dirty_if_the_package_was_changed_and_only_then(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], capture_output=True, text=True, check=True
        )

    package, readme = tmp_path / "package" / "module.py", tmp_path / "README.md"
    package.parent.mkdir()
    assert git_commit(package.parent) is None
    package.write_text("a")
    readme.write_text("a")
    for command in (("init",), ("add", "."), ("commit", "-m", "all")):
        git(*command)
    commit = git("rev-parse", "HEAD").stdout.strip()
    readme.write_text("b")
    assert git_commit(package.parent) == commit
    package.write_text("b")
    assert git_commit(package.parent) == f"{commit}-dirty"
