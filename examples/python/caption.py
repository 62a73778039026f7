"""Caption pictures with an exported bundle: numpy, Pillow, a tokenizer and one engine, no torch.

python caption.py BUNDLE picture.jpg …
"""

import sys

from blip_edge import load


def main() -> None:
    bundle, *pictures = sys.argv[1:]
    model = load(bundle)
    for picture in pictures:
        caption = model.caption(picture, beams=3)
        print(f"{picture}: {caption.text} (score {caption.score:.2f})")


if __name__ == "__main__":
    main()
