"""Penn-Treebank-style words of a caption, as the captioning field counts them.

Published CIDEr, BLEU and ROUGE-L figures are computed on the tokens of a Java program (Stanford's
PTBTokenizer 3.4.1, called by `pycocoevalcap` with `-preserveLines -lowerCase`), from which
punctuation is then dropped. This module writes the same words without Java: contractions are split
("don't" is `do n't`, "dog's" is `dog 's`), hyphens and slashes inside a word stay, abbreviations
keep their period.

    words("A dog's bowl isn't on the black-and-white rug.")
    ('a', 'dog', "'s", 'bowl', 'is', "n't", 'on', 'the', 'black-and-white', 'rug')

Faithful also where the field's own tool is odd, because a score is compared with scores: brackets
stay as the words `-lrb-` and `-rrb-` (they are in the field's list of punctuation in capitals only,
and are lower-cased before they are looked up), and so do runs such as `!!`. Not followed: tags
with attributes, area codes in brackets, and fractions written with a blank, which are glued.

The treebank's conventions: Marcus, Santorini, Marcinkiewicz, "Building a Large Annotated Corpus of
English: The Penn Treebank", Computational Linguistics 19(2), 1993.
"""

import re
from functools import lru_cache

__all__ = ["words"]

# What the field drops. Its brackets never match, as the docstring above says.
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Abbreviations whose period belongs to the word, in any writing.
_ABBREVIATIONS = """
    adj adm adv asst atty attys brig capt cmdr col cpl det dr drs ens gen gov govs hon insp jr lieut
    lt maj messrs mlle mme mr mrs ms msgr pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt
    spc sr ste supt supts
    ave bldg blvd ft mt rd rt st
    assn assoc bhd bros cie co corp cos dept elec esq inc intl invt ltd mfg mtg natl plc ppte ppty
    pte ptes pty ptys sys univ
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
    ala ariz az calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn
    tenn va vt wis wisc wyo
    al alex cf est etc ext jos seq sq tel vs wm
"""
# Those that are common words as well: only with a capital.
_CAPITAL_ABBREVIATIONS = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
# Those that are abbreviations only when a number follows.
_NUMBER_ABBREVIATIONS = "art ca fig figs no nos op pp prop"

# A capital letter and a period are an initial ("J. Smith"), unless one of these begins a sentence.
_SENTENCE_STARTS = """
    A About According After An As At But Earlier He Her Here However I If In It Last Many More Now
    Once One Other Our She Since So Some Such That The Their Then There These They This We What When
    While Yet You
"""

_CLITICS = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
}
_WRITTEN = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "€": "$",
    "¢": "cents",
    "…": "...",
}
_REPLACED = {
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&apos;": "'",
    "&nbsp;": " ",
    "\u200b": " ",
    "¼": " 1/4 ",
    "½": " 1/2 ",
    "¾": " 3/4 ",
}

_A = "['’]"  # apostrophes
_L = r"[^\W\d_]"  # letters of any script
_W = r"[^\W_]"  # letters and digits
_END = rf"(?!{_L})"
_URL_TAIL = r"(?:/[^\s\"<>|()]*[^\s\"<>|.!?(){},-])?"
_NUMBER = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_WORD = rf"{_L}{_W}*(?:[.!?]{_L}{_W}*)*"  # "mat.The" is one word, however it came about
_PART = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"


def _any_case(words_: str) -> str:
    return "(?i:" + "|".join(words_.split()) + ")"


# The part before "n't" comes first of all: a longest match would take the n with it.
_NEGATED = re.compile(rf"{_L}+?(?=[nN][{_A[1:-1]}`‘][tT]{_END})")
# Everything else: at each place the longest match wins, and of equally long ones the first.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # what apostrophes make
        rf"[nN][{_A[1:-1]}`‘][tT]{_END}",
        rf"(?i:{_A}(?:[sdm]|re|ve|ll)){_END}",
        rf"(?i:{_A}n{_A}|{_A}n{_END}|{_A}em{_END}|{_A}till?{_END}|{_A}cause{_END})",
        rf"(?i:{_A}t(?=(?:is|was){_END}))",
        rf"{_A}\d\d(?!\S)|{_A}\d0[sS]",
        rf"(?i:ol{_A}|somethin{_A}|dunkin{_A}(?!s)|y{_A}(?={_L})|j{_A}(?={_L}))",
        rf"(?i:[dol]{_A}{_L}+|(?:c'(?:mon|est)|ma{_A}am|s'mores|hawai'i|li'l|n?e'er){_END})",
        # words
        _WORD,
        rf"(?i:[dol]{_A})?{_W}+(?:-(?i:[dol]{_A})?{_W}+)+",
        rf"{_W}(?:{_W}|[.,])*(?:-(?:{_L}\.(?:{_L}\.)+|{_W}+))+",
        rf"{_W}+(?:_{_W}+)*",
        rf"{_PART}(?:/{_PART}){{1,2}}",
        r"[A-Z]+(?:[+&][A-Z]+)+",
        # what keeps its period
        rf"{_L}(?:\.{_L})*\.",
        rf"{_any_case(_ABBREVIATIONS)}\.|(?i:ph\.d\.)",
        rf"(?:{'|'.join(_CAPITAL_ABBREVIATIONS.split())})\.",
        rf"{_any_case(_NUMBER_ABBREVIATIONS)}\.(?=[\d,;:])",
        rf"{_WORD}\.(?=[,;:])",
        # numbers
        rf"[-+]?{_NUMBER}",
        r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}|\d{1,4}-\d{1,4}/\d{1,4}",
        # addresses and names of the net
        r"(?i:https?)://[^\s\"<>|()]+[^\s\"<>|.!?(){},-]",
        rf"(?i:www\.(?:[\w-]+\.)+[a-z]{{2,4}}{_URL_TAIL})",
        rf"(?i:(?:\w+\.)+(?:com|net|org|edu){_URL_TAIL})",
        r"[A-Za-z0-9][^\s\"<>|()@]*@[^\s\"<>|().]+(?:\.[^\s\"<>|().]+)*",
        rf"@[A-Za-z_]\w*|#{_L}+",
        r"</?[A-Za-z][\w:.-]*/?>",
        # signs
        rf"[<>]?[:;=]['-]*[()\[\]DPp]{_END}",
        r"--+|–|—|\.\.\.+|[?!]+|''|``|_+|\*+|##+|<<|>>|[A-Z]*\$",
        r"\S",
    )
)
_BEFORE_NUMBER = re.compile(rf"\b({_any_case(_NUMBER_ABBREVIATIONS)}\.)\s+(?=\d+(?![\w-]))")
_REPLACE = re.compile("|".join(_REPLACED))
_LAST_INITIAL = re.compile(
    rf"(?<![\w.])({_L})\.(?=\s*$|\s+(?:{'|'.join(_SENTENCE_STARTS.split())})\b)"
)
_CONTROL = re.compile("[\u00ad\u200c-\u200f\U00010000-\U0010ffff]")


def words(caption: str) -> tuple[str, ...]:
    """The lower-cased words of one caption, without punctuation; empty when nothing is left."""
    text = _REPLACE.sub(lambda found: _REPLACED[found[0]], caption)
    # A sign outside the basic plane (most emoji) is no token for the field's tool.
    text = _CONTROL.sub("", text)
    text = _BEFORE_NUMBER.sub(r"\1", text)  # "no. 5" must be seen as one piece
    text = _LAST_INITIAL.sub(r"\1 .", text)  # in "plan B. The ..." the sentence ends, not the word
    return tuple(word for piece in text.split() for word in _split(piece))


@lru_cache(maxsize=1 << 16)  # captions repeat a few thousand pieces
def _split(piece: str) -> tuple[str, ...]:
    """The words of a piece of text without blanks."""
    found: list[str] = []
    start = 0
    while start < len(piece):
        token = _token_at(piece, start)
        start += len(token)
        found += _CLITICS.get(token.lower()) or (_written(token),)
    return tuple(word for word in found if word not in _PUNCTUATION)


def _token_at(piece: str, start: int) -> str:
    negated = _NEGATED.match(piece, start)
    if negated:
        return negated[0]
    matches = (pattern.match(piece, start) for pattern in _PATTERNS)
    return max((match[0] for match in matches if match), key=len)


def _written(token: str) -> str:
    """How the treebank writes a token."""
    if token.startswith("--") or token in "–—":
        return "--"
    if token.startswith("..."):
        return "..."
    if len(token) == 1:
        quoted = "''" if token in '"“”«»' else "'" if token in "’‘" else token.lower()
        return _WRITTEN.get(token, quoted)
    word = token.lower()
    if word[0] == "’" and word[1:] in {"s", "d", "m", "re", "ve", "ll"}:
        return "'" + word[1:]
    if word[-1] in "()":  # of a smiley; its square brackets stay
        return word[:-1] + _WRITTEN[word[-1]]
    return word.replace("n’t", "n't") if len(word) == 3 else word
