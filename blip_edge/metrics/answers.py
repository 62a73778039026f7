"""An answer in the form in which answers are compared: "The two dogs." is "2 dogs".

The rules are those of the VQA challenge's evaluator (https://visualqa.org/evaluation.html; Antol et
al., "VQA: Visual Question Answering", ICCV 2015), in its order:

1. line breaks and tabs are blanks, and blanks at both ends go;
2. a sign of `_SIGNS` goes without a trace if it stands beside a blank somewhere in the answer, or
   if the answer has a comma between two digits; otherwise it becomes a blank;
3. a period goes unless a digit follows;
4. lower case; number words become digits; articles go; a contraction gets the apostrophe that it
   lacks.

    normalised("The two dogs.")  # 2 dogs

Faithful also where the evaluator is odd, because a score is compared with scores: "none" is 0, an
answer that is an article is empty, apostrophes and colons stay, "somebody'd" loses its apostrophe.
"""

import re

__all__ = ["bare", "normalised", "unpunctuated"]

_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_ARTICLES = frozenset(["a", "an", "the"])

# Each is also found when exactly one of its apostrophes is missing, whichever it is.
_CONTRACTIONS = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't
    needn't oughtn't shan't shouldn't wasn't weren't won't wouldn't
    couldn't've hadn't've mightn't've shouldn't've wouldn't've
    could've might've must've not've should've they've we've what've where've who've would've you've
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've
    who'd've you'd've y'all'd've
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll y'all'll
    he's how's somebody's someone's that's there's what's when's where's who's why's
    there're they're what're why're you're
    ma'am o'clock y'all 'twas 'ow's'at
"""
_MENDED = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}

_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32  # the evaluator hands its re.UNICODE over where the number of replacements stands


def normalised(answer: str) -> str:
    """All the rules: what a prediction is before it is compared."""
    words = (_DIGITS.get(word, word) for word in unpunctuated(bare(answer)).lower().split())
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)


def bare(answer: str) -> str:
    """Rule 1."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def unpunctuated(answer: str) -> str:
    """Rules 2 and 3, which is all that is done to what people answered."""
    thousands = _THOUSANDS.search(answer) is not None
    traces = {
        ord(sign): None if thousands or f"{sign} " in answer or f" {sign}" in answer else " "
        for sign in _SIGNS
        if sign in answer
    }
    return _PERIOD.sub("", answer.translate(traces), count=_PERIODS)
