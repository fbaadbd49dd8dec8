"""usage: python -m fashion_lightning.demo [--ckpt_path best|last|run:N|PATH] [--port 8000] [--flag VALUE ...]

Shows a page on which pictures of garments are predicted, at an address of this machine alone.
Pictures are dropped, pasted, chosen or drawn; they are kept nowhere. Ctrl-C ends it.

examples
  python -m fashion_lightning.demo
  python -m fashion_lightning.demo --ckpt_path run:3 --port 0

flags that people use
  --port N                           of the address; 0 takes any that is free
"""

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> None:
    command.run("demo", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)
