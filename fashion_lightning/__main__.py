"""`python -m fashion_lightning`: the commands."""

from fashion_lightning import fit, predict, runs, test, verify

if __name__ == "__main__":
    print("Fashion-MNIST with PyTorch Lightning. The commands, each with --help:")
    for command in (fit, test, predict, runs, verify):
        usage, _, purpose, *more = (command.__doc__ or "").splitlines()
        print(f"\n  {usage.removeprefix('usage: ')}\n  {purpose}")
