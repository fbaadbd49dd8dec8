"""`python -m fashion_lightning`: the commands, by the first lines of their files, which need not be imported."""

if __name__ == "__main__":
    print("Fashion-MNIST with PyTorch Lightning. The commands, each with --help:")
    for command in ("fit", "test", "predict", "runs", "study", "verify", "export", "demo"):
        with open(__file__.replace("__main__", command)) as file:
            usage, _, purpose, *more = file.read().splitlines()
        print(f"\n  {usage.partition('usage: ')[2]}\n  {purpose}")
