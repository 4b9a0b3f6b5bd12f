"""Abbreviations after whose full stop a sentence goes on, even before a capital letter.

What may also end a sentence ("at 5 p.m.", "etc.") is not here: before a small letter no full stop ends
a sentence, and before a capital one these do. Lower case, without the last full stop.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ABBREVIATIONS: dict[str, frozenset[str]] = {
    language: _set(words)
    for language, words in {
        "en": "dr mr mrs ms mx prof st rev hon gen col maj capt lt sgt gov sen rep pres messrs mt"
        " e.g i.e vs cf viz approx al ca esp",
        "de": "dr prof hr fr frl dipl ing st str z.b d.h u.a o.ä i.d.r bzw ca vgl evtl ggf inkl exkl"
        " zzgl sog abs tel hrsg mind",
        "fr": "m mm mme mlle mgr me dr pr st ste p.ex c.-à-d cf env av bd",
        "es": "sr sra srta sres d dña dr dra prof ud uds av avda p.ej ee pág aprox",
        "it": "sig sigg sig.ra dott dott.ssa prof prof.ssa ing avv arch egr gent p.es ca s",
        "pt": "sr sra srta dr dra prof profa eng exmo av p.ex r",
        "nl": "dhr mevr mw dr prof ir ing drs mr bijv d.w.z o.a ca",
        "pl": "dr prof mgr inż ks św np tzw m.in ul al pl woj",
        "cs": "dr mgr ing prof doc sv např tzv tj ul",
        "sv": "dr prof hr fr t.ex bl.a d.v.s s.k ca",
        "da": "dr prof hr fr f.eks bl.a d.v.s ca",
        "nb": "dr prof hr fr f.eks bl.a dvs ca",
        "fi": "dr prof esim ts mm ns",
        "tr": "dr prof doç av örn bkz sn",
        "ru": "г ул д им т.е т.н т.к св проф акад гр напр стр",
        "uk": "м вул ім т.зв св проф акад напр",
    }.items()
}

NUMBERED = _set(
    "no nos nr num núm n° vol fig figs art ch chap sec sect p pp pg tab eq ex op abb abs kap s str bd"
    " jan feb mar apr jun jul aug sep sept oct nov dec okt dez rys č стр рис гл"
)
"""Those that a number follows, in any language: "No. 5", "Fig. 3", "Jan. 2"."""

ORDINALS = frozenset(
    {"de", "da", "nb", "nn", "no", "fi", "cs", "sk", "pl", "hu", "sl", "hr", "et", "lv", "tr"}
)
"""Languages that write an ordinal number with a full stop: "am 3. Oktober"."""
