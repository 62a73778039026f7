"""The words of a caption; what is expected was written by Stanford's PTBTokenizer 3.4.1."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.metrics import words

EXPECTED = {
    "A dog.": "a dog",
    "A dog's bowl isn't here.": "a dog 's bowl is n't here",
    "don't can't won't cannot gonna ain't": "do n't ca n't wo n't can not gon na ai n't",
    "it's I'm we've they'll he'd DOG'S": "it 's i 'm we 've they 'll he 'd dog 's",
    "couldn't've who'd've": "could n't 've who 'd 've",
    "'tis the dogs' bowl": "'t is the dogs bowl",
    "don’t “stop” it’s ‘on’": "do n't stop it 's on",
    "a black-and-white, 3-year-old cat": "a black-and-white 3-year-old cat",
    "mother-in-law's t-shirt": "mother-in-law 's t-shirt",
    "a man - with a hat -- jumps... over — it": "a man with a hat jumps over it",
    "two men (one in red)": "two men -lrb- one in red -rrb-",
    "a \"no parking\" sign; it says: 'stop'": "a no parking sign it says stop",
    "wow!! what?! yes!": "wow !! what ?! yes",
    "$5.00 £3 5¢ 50% #1": "$ 5.00 # 3 5 cents 50 % # 1",
    "1,000 people, 2.5 miles, -5 degrees": "1,000 people 2.5 miles -5 degrees",
    "at 10:30am or 10:30 a.m. on 12/25/2010": "at 10:30 am or 10:30 a.m. on 12/25/2010",
    "½ of a 1/2 eaten sandwich": "1/2 of a 1/2 eaten sandwich",
    "a man 5'10\" tall": "a man 5 10 tall",
    "Main St. and Mr. Smith etc.": "main st. and mr. smith etc.",
    "a big mass. the ill. of it": "a big mass the ill of it",
    "on the mat. The end": "on the mat the end",
    "on the mat.The end": "on the mat.the end",
    "no. 5 bus, and no. one": "no. 5 bus and no one",
    "plan B. The J. Smith house": "plan b the j. smith house",
    "the U.S. flag in the U.S.": "the u.s. flag in the u.s.",
    "cats & dogs &amp; B&W black&white": "cats & dogs & b&w black & white",
    "walking/running his/her w/ a": "walking/running his/her w / a",
    "rock 'n' roll in the '80s, 1990's": "rock 'n' roll in the '80s 1990 's",
    "o'clock O'Brien's ma'am y'all": "o'clock o'brien 's ma'am y' all",
    "dog,cat;mouse:rat": "dog cat mouse rat",
    "me@example.com www.example.com.": "me@example.com www.example.com",
    "a café, naïve": "a café naïve",
    "a dog 😀 runs ♥": "a dog runs ♥",
    "happy :) and :-) dogs, ;) or :(": "happy :-rrb- and :--rrb- dogs ;-rrb- or :-lrb-",
    "mad >:( dog:'), =) :] :-[ :D": "mad >:-lrb- dog :'-rrb- =-rrb- :] :-[ :d",
    "a_b _c": "a_b _ c",
    "": "",
    " ... !": "",
}


@pytest.mark.parametrize(("caption", "expected"), EXPECTED.items())
def test_words_are_the_treebanks(caption: str, expected: str) -> None:
    assert " ".join(words(caption)) == expected


_PLAIN = st.text("abcdeghijklmnoprstuwy", min_size=2, max_size=9)


@given(st.lists(_PLAIN, max_size=12))
@settings(max_examples=50)
def test_plain_words_stay(plain: list[str]) -> None:
    split = {"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"}
    plain = [word for word in plain if word not in split]
    assert words(" ".join(plain)) == tuple(plain)


@given(st.text(max_size=60))
def test_any_text_has_words(text: str) -> None:
    found = words(text)
    assert all(word and not any(sign.isspace() for sign in word) for word in found)
    assert not {".", ",", "?", "!", "''", "``", "'", "--", "..."} & set(found)


@given(_PLAIN, st.sampled_from([".", "!", " .", ",", "...", ')."', ".'"]))
@settings(max_examples=50)
def test_closing_punctuation_does_not_matter(word: str, sign: str) -> None:
    if words(f"{word}.") != (f"{word}.",):  # not an abbreviation
        closing = ("-rrb-",) if ")" in sign else ()
        assert words(f"the {word}{sign}") == words(f"the {word}") + closing
