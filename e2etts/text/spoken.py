"""How signs and abbreviations are read aloud, per language. Keys are lower case."""

ABBREVIATIONS: dict[str, dict[str, str]] = {
    "de": {"z. b.": "zum beispiel", "z.b.": "zum beispiel", "d. h.": "das heißt",
           "d.h.": "das heißt", "u. a.": "unter anderem", "u.a.": "unter anderem",
           "usw.": "und so weiter", "bzw.": "beziehungsweise", "ca.": "circa", "dr.": "doktor",
           "prof.": "professor", "hr.": "herr", "nr.": "nummer", "str.": "straße",
           "st.": "sankt", "vgl.": "vergleiche", "tel.": "telefon"},
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
           "др.": "другие", "г.": "год", "ул.": "улица", "№": "номер", "тел.": "телефон"},
    "zh": {},
}

SYMBOLS: dict[str, dict[str, str]] = {
    "de": {"@": "at", "#": "raute", "%": "prozent", "&": "und", "+": "plus", "=": "gleich",
           "$": "dollar", "€": "euro", "£": "pfund", "°": "grad", "*": "stern", "§": "paragraf"},
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
    "zh": {"@": "艾特", "#": "井号", "%": "百分号", "&": "和", "+": "加", "=": "等于",
           "$": "美元", "€": "欧元", "£": "英镑", "°": "度", "*": "星号"},
}

# sign -> (one, many), where num2words does not know them better
CURRENCIES: dict[str, dict[str, tuple[str, str]]] = {
    "de": {"$": ("dollar", "dollar"), "€": ("euro", "euro"), "£": ("pfund", "pfund")},
    "en": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("pound", "pounds")},
    "es": {"$": ("dólar", "dólares"), "€": ("euro", "euros"), "£": ("libra", "libras")},
    "fr": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("livre", "livres")},
    "it": {"$": ("dollaro", "dollari"), "€": ("euro", "euro"), "£": ("sterlina", "sterline")},
    "ru": {"$": ("доллар", "долларов"), "€": ("евро", "евро"), "£": ("фунт", "фунтов"),
           "₽": ("рубль", "рублей"), "руб.": ("рубль", "рублей")},
}
# between the amount and its hundredths
JOINED_CENTS = {"de": " und ", "en": " and ", "es": " con ", "fr": " et ", "it": " e ", "ru": " "}

# as written -> (one, many, what stands between it and the currency)
MAGNITUDES: dict[str, dict[str, tuple[str, str, str]]] = {
    "de": {"tausend": ("tausend", "tausend", ""), "million": ("million", "millionen", ""),
           "millionen": ("million", "millionen", ""), "mio.": ("million", "millionen", ""),
           "milliarde": ("milliarde", "milliarden", ""),
           "milliarden": ("milliarde", "milliarden", ""),
           "mrd.": ("milliarde", "milliarden", "")},
    "en": {w: (w, w, "") for w in ("thousand", "million", "billion", "trillion")},
    "es": {"mil": ("mil", "mil", ""), "millón": ("millón", "millones", "de"),
           "millones": ("millón", "millones", "de")},
    "fr": {"million": ("million", "millions", "de"), "millions": ("million", "millions", "de"),
           "milliard": ("milliard", "milliards", "de"),
           "milliards": ("milliard", "milliards", "de")},
    "it": {"mila": ("mila", "mila", ""), "milione": ("milione", "milioni", "di"),
           "milioni": ("milione", "milioni", "di"), "miliardo": ("miliardo", "miliardi", "di"),
           "miliardi": ("miliardo", "miliardi", "di")},
    "ru": {"тыс.": ("тысяча", "тысяч", ""), "млн": ("миллион", "миллионов", ""),
           "млрд": ("миллиард", "миллиардов", "")},
}

WORDS: dict[str, dict[str, str]] = {
    "de": {"minus": "minus", "point": "komma"},
    "en": {"minus": "minus", "point": "point"}, "es": {"minus": "menos", "point": "coma"},
    "fr": {"minus": "moins", "point": "virgule"}, "it": {"minus": "meno", "point": "virgola"},
    "ru": {"minus": "минус", "point": "запятая"},
}

THOUSANDS = {"de": ".", "en": ",", "es": ".", "it": ".", "fr": " \u00a0\u202f",
             "ru": " \u00a0\u202f"}
ORDINALS = {
    "en": r"(\d+)(?:st|nd|rd|th)\b", "es": r"(\d+)\.?(?:º|ª|er\b|°)", "it": r"(\d+)(?:º|ª|°)",
    "fr": r"(\d+)(?:ers?|res?|èmes?|emes?|es?)\b", "ru": r"(\d+)-(?:й|я|е|го|му|м|ая|ый|ой)\b"}

# month names as they stand in a date; alternatives after the first are only read
DATES: dict[str, tuple[str, ...]] = {
    "de": ("januar|jänner", "februar", "märz", "april", "mai", "juni", "juli", "august",
           "september", "oktober", "november", "dezember"),
    "en": ("january|jan", "february|feb", "march|mar", "april|apr", "may", "june|jun",
           "july|jul", "august|aug", "september|sept|sep", "october|oct", "november|nov",
           "december|dec"),
    "es": ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto",
           "septiembre|setiembre", "octubre", "noviembre", "diciembre"),
    "fr": ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
           "octobre", "novembre", "décembre"),
    "it": ("gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto",
           "settembre", "ottobre", "novembre", "dicembre"),
    "ru": ("января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября",
           "октября", "ноября", "декабря"),
}

# (where a number is a year, what follows it -> how that is spoken and the case of the year)
YEARS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "de": (r"\b((?:in|im jahre?|seit|bis|vor|nach|anno)\s+)(1[1-9]\d\d)()(?![\w.,]*\d|\s*[€$£%])",
           {}),
    "en": (r"\b((?:in|since|until|before|after|year|of)\s+)(1[1-9]\d\d|20\d\d)()"
           r"(?![\w.,:]*\d|\s*[$€£%])", {}),
    "ru": (r"()\b(\d{4})(\s+(?:годах?|года|году|год|г\.))(?!\w)",
           {"года": (" года", "g"), "году": (" году", "p"), "год": (" год", "n"),
            "г.": (" год", "n")}),
}

# full hour, minutes below ten, other minutes
TIME: dict[str, tuple[str, str, str]] = {
    "de": ("{h} uhr", "{h} uhr {m}", "{h} uhr {m}"),
    "en": ("{h} o'clock", "{h} oh {m}", "{h} {m}"),
    "es": ("{h} en punto", "{h} y {m}", "{h} y {m}"),
    "fr": ("{h} heures", "{h} heures {m}", "{h} heures {m}"),
    "it": ("{h} in punto", "{h} e {m}", "{h} e {m}"),
    "ru": ("{h} часов", "{h} часов {m} минут", "{h} часов {m} минут"),
}
