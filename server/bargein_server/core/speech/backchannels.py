"""Words of agreement by language: the user listens and asks for nothing.

"No", "stop" and "wait" are in none of the lists. A text is agreement when it consists of at most
three entries.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

MAX_ENTRIES = 3
"""Entries of the longest agreement."""

_HUMS = "ah aha eh hm hmm hmmm m mhm mm mmhm mmhmm mmm hmhm oh ok okay uh uhhuh uhuh um"
"""Entries of every language."""

_ENTRIES: dict[str, str] = {
    "ar": """
        نعم, ايوه, أيوه, ايوا, أيوا, اه, آه, اها, آها, اي, إي, تمام, طيب, حسنا, ماشي, صح, صحيح, اوكي,
        أوكي, فعلا, طبعا, اكيد, أكيد, مم, ممم, همم, فهمت, جميل, رائع, بالضبط
    """,
    "de": """
        ja, jaja, jawohl, jo, joa, jep, genau, stimmt, klar, na klar, alles klar, ach, ach so, achso,
        ach ja, so, gut, sehr gut, schön, prima, super, toll, richtig, echt, in ordnung, verstehe,
        ich verstehe, verstanden, eben, tja, interessant, natürlich, sicher, wow, nett, cool
    """,
    "en": """
        alright, all right, cool, good, great, huh, i see, see, of course, exactly, nice, right, sure,
        true, wow, yeah, yep, yes, yup, got it, gotcha, interesting, makes sense, fine, really, perfect
    """,
    "es": """
        sí, si, ya veo, vale, claro, claro que sí, bueno, bien, muy bien, de acuerdo, entiendo,
        entendido, ajá, aja, eso, eso es, exacto, exactamente, cierto, es cierto, es verdad, verdad,
        perfecto, genial, dale, por supuesto, qué bien, desde luego, interesante, guay, órale
    """,
    "fr": """
        oui, ouais, ouaip, mouais, si, daccord, dac, bien, très bien, bien sûr, ça marche, ça va, voilà,
        exact, exactement, cest ça, cest vrai, vrai, je vois, je comprends, compris, entendu, parfait,
        super, génial, bon, ah bon, ben oui, ah oui, tout à fait, en effet, hein, intéressant, euh, ouf,
        cool
    """,
    "hi": """
        हाँ, हां, हा, हाँजी, हांजी, हाँ जी, हां जी, जी, जी हाँ, जी हां, अच्छा, ठीक, ठीक है, सही, सही है,
        बिल्कुल, बिलकुल, हम्म, हूँ, हूं, ओके, ओह, समझ गया, समझ गई, बढ़िया, वाह, ज़रूर, haan, ji, accha,
        theek hai, sahi
    """,
    "it": """
        sì, si, già, certo, va bene, bene, molto bene, daccordo, ho capito, capito, capisco, esatto,
        esattamente, giusto, vero, è vero, ecco, perfetto, ottimo, bello, appunto, ah sì, eh già,
        certamente, interessante, ok va bene, infatti
    """,
    "ja": """
        はい, うん, ええ, ああ, あー, へえ, へー, ほう, ほー, ふーん, ふうん, うーん, んー, ん, なるほど,
        なるほどね, なるほどですね, そう, そうか, そっか, そうですか, そうですね, そうなんだ,
        そうなんですか, そうなんですね, そうだね, だよね, ですよね, たしかに, 確かに, 了解, 了解です,
        わかった, わかりました, 分かりました, オッケー, オーケー, いいね, いいですね, すごい, 本当,
        ほんと, まあ, おー, おお, ok
    """,
    "ko": """
        네, 네네, 예, 응, 음, 흠, 어, 아, 오, 아하, 그래, 그래요, 그렇군요, 그렇구나, 그렇죠, 그쵸, 그치,
        맞아, 맞아요, 맞습니다, 알겠어, 알겠어요, 알겠습니다, 알았어, 좋아, 좋아요, 오케이, 진짜, 정말,
        물론, 물론이죠, 그러게, 그러게요, 그런가요, ok
    """,
    "nl": """
        ja, jaja, jawel, jep, jazeker, precies, klopt, dat klopt, goed, prima, oké, oke, zeker,
        natuurlijk, ja hoor, ach, ach zo, juist, inderdaad, mooi, fijn, leuk, ik snap het, snap ik,
        begrepen, ik begrijp het, duidelijk, echt, tof, hè, zo, is goed, super, interessant
    """,
    "pl": """
        tak, dobrze, dobra, jasne, aha, rozumiem, okej, racja, pewnie, właśnie, dokładnie, super,
        świetnie, fajnie, oczywiście, naprawdę
    """,
    "pt": """
        sim, é, tá, tá bom, tá certo, está bem, está bom, certo, claro, bom, bem, muito bem, pois,
        pois é, pois sim, isso, isso mesmo, exato, exatamente, entendi, entendo, percebo, beleza, legal,
        verdade, é verdade, perfeito, ótimo, com certeza, aham, ahã, uhum, sei, de acordo, interessante,
        fixe
    """,
    "ru": """
        да, ага, угу, так, ну да, ну, хорошо, ладно, ясно, понятно, понял, поняла, конечно, верно, точно,
        правда, именно, окей, ок, м, мм, ммм, хм, хмм, мгм, а, ах, ого, здорово, отлично, правильно,
        разумеется, интересно, супер, эм
    """,
    "sv": """
        ja, jo, jaha, japp, precis, just det, okej, bra, mycket bra, visst, klart, absolut, jag förstår,
        förstår, aha, så klart, kanon, verkligen, mm
    """,
    "tr": """
        evet, hı hı, hıhı, tamam, peki, olur, doğru, aynen, anladım, anlıyorum, güzel, iyi, tabii, tabi,
        elbette, öyle mi, öyle, harika, süper, gerçekten, hım
    """,
    "uk": """
        так, ага, угу, добре, гаразд, ясно, зрозуміло, зрозумів, зрозуміла, звісно, звичайно, точно,
        правда, саме так, окей, ок, мм, хм, ну так, ну, чудово
    """,
    "zh": """
        嗯, 嗯嗯, 恩, 对, 对对, 对的, 對, 對的, 是, 是的, 是啊, 是吗, 好, 好的, 好吧, 好啊, 行, 行吧,
        可以, 没错, 沒錯, 哦, 噢, 喔, 啊, 呃, 哈, 明白, 明白了, 知道, 知道了, 懂了, 了解, 了解了,
        原来如此, 這樣啊, 这样啊, 这样, 真的, 真的吗, 不错, 当然, 當然, ok
    """,
}

UNSPACED = frozenset({"ja", "zh"})
"""Languages that are written without spaces."""

LANGUAGES = tuple(_ENTRIES)
"""Languages with entries, as the first part of a BCP 47 tag."""


def normalised(text: str, space: str = " ") -> str:
    """Return a text in lower case, with its letters, marks and digits alone.

    Args:
        text: The text.
        space: Separator of its words.
    """
    folded = unicodedata.normalize("NFC", text.casefold())
    kept = "".join(
        char if unicodedata.category(char)[0] in "LMN" else " " if char.isspace() else "" for char in folded
    )
    return space.join(kept.split())


def is_agreement(text: str, language: str = "en") -> bool:
    """Return whether words only show that the user listens.

    Args:
        text: The words.
        language: Their language as a BCP 47 tag; English stands in for one without a list.
    """
    code = language.partition("-")[0].partition("_")[0].casefold()
    if code not in _ENTRIES:
        code = "en"
    return _pattern(code).fullmatch(normalised(text, _separator(code))) is not None


def _separator(code: str) -> str:
    return "" if code in UNSPACED else " "


@cache
def _pattern(code: str) -> re.Pattern[str]:
    separator = _separator(code)
    entries = {normalised(entry, separator) for entry in _ENTRIES[code].split(",")} | set(_HUMS.split())
    one = f"(?:{'|'.join(re.escape(entry) for entry in sorted(entries, key=len, reverse=True))})"
    return re.compile(f"{one}(?:{separator}{one}){{0,{MAX_ENTRIES - 1}}}")
