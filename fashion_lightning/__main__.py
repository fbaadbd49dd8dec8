"""`python -m fashion_lightning`: what there is."""

TEXT = """Fashion-MNIST with PyTorch Lightning. There are five commands; each has --help.

  fit      trains a network, evaluates it, and writes it all down; --resume goes on with it
           python -m fashion_lightning.fit
  test     evaluates a checkpoint on the training, validation and test images
           python -m fashion_lightning.test --ckpt_path run:0
  predict  names the garments on pictures of your own
           python -m fashion_lightning.predict photo.jpg
  runs     lists what was trained
           python -m fashion_lightning.runs --sort val_accuracy
  verify   tries whether the promises of the README hold on this machine
           python -m fashion_lightning.verify"""

if __name__ == "__main__":
    print(TEXT)
