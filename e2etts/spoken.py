"""How signs and abbreviations are read aloud, per language. Keys are lower case."""

ABBREVIATIONS: dict[str, dict[str, str]] = {
    "en": {"mr.": "mister", "mrs.": "missus", "ms.": "miss", "dr.": "doctor", "prof.": "professor",
           "st.": "saint", "vs.": "versus", "etc.": "et cetera", "e.g.": "for example",
           "i.e.": "that is", "no. ": "number ", "dept.": "department", "ext.": "extension",
           "mr": "mister", "mrs": "missus", "dr": "doctor", "vs": "versus"},
    "es": {"sr.": "señor", "sra.": "señora", "srta.": "señorita", "dr.": "doctor",
           "dra.": "doctora", "ud.": "usted", "uds.": "ustedes", "etc.": "etcétera",
           "p. ej.": "por ejemplo", "núm.": "número"},
    "fr": {"mme": "madame", "mlle": "mademoiselle", "mm.": "messieurs", "dr": "docteur",
           "etc.": "et cetera", "p. ex.": "par exemple", "n°": "numéro", "m. ": "monsieur "},
    "it": {"sig.ra": "signora", "sig.": "signor", "dott.": "dottor", "prof.": "professor",
           "ecc.": "eccetera", "n°": "numero"},
    "ru": {"т.д.": "так далее", "т.п.": "тому подобное", "т.е.": "то есть", "т.к.": "так как",
           "др.": "другие", "г.": "год", "руб.": "рублей", "№": "номер", "тел.": "телефон"},
}

SYMBOLS: dict[str, dict[str, str]] = {
    "en": {"@": "at", "#": "number", "%": "percent", "&": "and", "+": "plus", "=": "equals",
           "$": "dollar", "€": "euro", "£": "pound", "°": "degrees", "*": "star"},
    "es": {"@": "arroba", "#": "numeral", "%": "por ciento", "&": "y", "+": "más", "=": "igual",
           "$": "dólar", "€": "euro", "£": "libra", "°": "grados", "*": "asterisco"},
    "fr": {"@": "arobase", "#": "dièse", "%": "pour cent", "&": "et", "+": "plus", "=": "égale",
           "$": "dollar", "€": "euro", "£": "livre", "°": "degrés", "*": "étoile"},
    "it": {"@": "chiocciola", "#": "cancelletto", "%": "per cento", "&": "e", "+": "più",
           "=": "uguale", "$": "dollaro", "€": "euro", "£": "sterlina", "°": "gradi",
           "*": "asterisco"},
    "ru": {"@": "собака", "#": "решётка", "%": "процентов", "&": "и", "+": "плюс", "=": "равно",
           "$": "доллар", "€": "евро", "£": "фунт", "°": "градусов", "*": "звёздочка"},
}

# sign -> (one, many)
CURRENCIES: dict[str, dict[str, tuple[str, str]]] = {
    "en": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("pound", "pounds")},
    "es": {"$": ("dólar", "dólares"), "€": ("euro", "euros"), "£": ("libra", "libras")},
    "fr": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("livre", "livres")},
    "it": {"$": ("dollaro", "dollari"), "€": ("euro", "euro"), "£": ("sterlina", "sterline")},
    "ru": {"$": ("доллар", "долларов"), "€": ("евро", "евро"), "£": ("фунт", "фунтов")},
}

WORDS: dict[str, dict[str, str]] = {
    "en": {"minus": "minus", "point": "point"}, "es": {"minus": "menos", "point": "coma"},
    "fr": {"minus": "moins", "point": "virgule"}, "it": {"minus": "meno", "point": "virgola"},
    "ru": {"minus": "минус", "point": "запятая"},
}

# full hour, minutes below ten, other minutes
TIME: dict[str, tuple[str, str, str]] = {
    "en": ("{h} o'clock", "{h} oh {m}", "{h} {m}"),
    "es": ("{h} en punto", "{h} y {m}", "{h} y {m}"),
    "fr": ("{h} heures", "{h} heures {m}", "{h} heures {m}"),
    "it": ("{h} in punto", "{h} e {m}", "{h} e {m}"),
    "ru": ("{h} часов", "{h} часов {m} минут", "{h} часов {m} минут"),
}
