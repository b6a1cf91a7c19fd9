"""Spoken forms of symbols and abbreviations, per language. Keys are lower case.

Noun forms are (singular, plural), in Russian (one, two to four and fractions, many).
"""

# A key that ends in # matches only before a number.
ABBREVIATIONS: dict[str, dict[str, str]] = {
    "de": {"z. b.": "zum beispiel", "z.b.": "zum beispiel", "d. h.": "das heißt",
           "d.h.": "das heißt", "u. a.": "unter anderem", "u.a.": "unter anderem",
           "usw.": "und so weiter", "bzw.": "beziehungsweise", "ca.": "circa", "dr.": "doktor",
           "prof.": "professor", "hr.": "herr", "nr.": "nummer", "str.": "straße",
           "st.": "sankt", "vgl.": "vergleiche", "tel.": "telefon", "mio.": "millionen",
           "mrd.": "milliarden"},
    "en": {"mr.": "mister", "mrs.": "missus", "ms.": "miss", "dr.": "doctor", "prof.": "professor",
           "st.": "saint", "vs.": "versus", "etc.": "et cetera", "e.g.": "for example",
           "i.e.": "that is", "no.#": "number", "dept.": "department", "ext.": "extension",
           "mr": "mister", "mrs": "missus", "dr": "doctor", "vs": "versus"},
    "es": {"sr.": "señor", "sra.": "señora", "srta.": "señorita", "dr.": "doctor",
           "dra.": "doctora", "ud.": "usted", "uds.": "ustedes", "etc.": "etcétera",
           "p. ej.": "por ejemplo", "núm.": "número", "n.º": "número", "nº": "número",
           "ee. uu.": "estados unidos", "ee.uu.": "estados unidos"},
    "fr": {"mme": "madame", "mlle": "mademoiselle", "mm.": "messieurs", "dr": "docteur",
           "etc.": "et cetera", "p. ex.": "par exemple", "n°": "numéro", "m. ": "monsieur "},
    "it": {"sig.ra": "signora", "sig.": "signor", "dott.": "dottor", "prof.": "professor",
           "ecc.": "eccetera", "n°": "numero", "n.#": "numero"},
    "ru": {"т.д.": "так далее", "т.п.": "тому подобное", "т.е.": "то есть", "т.к.": "так как",
           "т. д.": "так далее", "т. п.": "тому подобное", "т. е.": "то есть", "т. к.": "так как",
           "др.": "другие", "гг.": "годы", "г.": "год", "ул.": "улица", "д.#": "дом",
           "кв.#": "квартира", "№": "номер", "тел.": "телефон", "д-р": "доктор",
           "г-н": "господин", "г-жа": "госпожа", "тыс.": "тысяч", "млн": "миллионов",
           "млрд": "миллиардов", "коп.": "копеек"},
    "zh": {},
}

SYMBOLS: dict[str, dict[str, str]] = {
    "de": {"@": "at", "#": "raute", "%": "prozent", "&": "und", "+": "plus", "=": "gleich",
           "$": "dollar", "€": "euro", "£": "pfund", "°": "grad", "*": "stern", "§": "paragraf",
           "²": "hoch zwei", "³": "hoch drei"},
    "en": {"@": "at", "#": "number", "%": "percent", "&": "and", "+": "plus", "=": "equals",
           "$": "dollar", "€": "euro", "£": "pound", "°": "degrees", "*": "star", "²": "squared",
           "³": "cubed", "¢": "cents"},
    "es": {"@": "arroba", "#": "numeral", "%": "por ciento", "&": "y", "+": "más", "=": "igual",
           "$": "dólar", "€": "euro", "£": "libra", "°": "grados", "*": "asterisco",
           "²": "al cuadrado", "³": "al cubo"},
    "fr": {"@": "arobase", "#": "dièse", "%": "pour cent", "&": "et", "+": "plus", "=": "égale",
           "$": "dollar", "€": "euro", "£": "livre", "°": "degrés", "*": "étoile",
           "²": "au carré", "³": "au cube"},
    "it": {"@": "chiocciola", "#": "cancelletto", "%": "per cento", "&": "e", "+": "più",
           "=": "uguale", "$": "dollaro", "€": "euro", "£": "sterlina", "°": "gradi",
           "*": "asterisco", "²": "al quadrato", "³": "al cubo"},
    "ru": {"@": "собака", "#": "решётка", "%": "процентов", "&": "и", "+": "плюс", "=": "равно",
           "$": "доллар", "€": "евро", "£": "фунт", "°": "градусов", "*": "звёздочка",
           "²": "в квадрате", "³": "в кубе"},
    "zh": {"@": "艾特", "#": "井号", "%": "百分号", "&": "和", "+": "加", "=": "等于",
           "$": "美元", "€": "欧元", "£": "英镑", "°": "度", "*": "星号", "²": "平方", "³": "立方"},
}

# symbol -> noun forms; num2words has priority
CURRENCIES: dict[str, dict[str, tuple[str, ...]]] = {
    "de": {"$": ("dollar", "dollar"), "€": ("euro", "euro"), "£": ("pfund", "pfund"),
           "¥": ("yen", "yen")},
    "en": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("pound", "pounds"),
           "¥": ("yen", "yen")},
    "es": {"$": ("dólar", "dólares"), "€": ("euro", "euros"), "£": ("libra", "libras"),
           "¥": ("yen", "yenes")},
    "fr": {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("livre", "livres"),
           "¥": ("yen", "yens")},
    "it": {"$": ("dollaro", "dollari"), "€": ("euro", "euro"), "£": ("sterlina", "sterline"),
           "¥": ("yen", "yen")},
    "ru": {"$": ("доллар", "доллара", "долларов"), "€": ("евро", "евро", "евро"),
           "£": ("фунт", "фунта", "фунтов"), "¥": ("иена", "иены", "иен"),
           "₽": ("рубль", "рубля", "рублей"), "руб.": ("рубль", "рубля", "рублей")},
}
# between the amount and its hundredths
JOINED_CENTS = {"de": " und ", "en": " and ", "es": " con ", "fr": " et ", "it": " e ", "ru": " "}

# as written -> (noun forms, word between them and the currency)
MAGNITUDES: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "de": {"tausend": (("tausend", "tausend"), ""),
           **dict.fromkeys(("million", "millionen", "mio."), (("million", "millionen"), "")),
           **dict.fromkeys(("milliarde", "milliarden", "mrd."), (("milliarde", "milliarden"), ""))},
    "en": {**dict.fromkeys(("thousand", "k"), (("thousand", "thousand"), "")),
           **dict.fromkeys(("million", "m", "mn"), (("million", "million"), "")),
           **dict.fromkeys(("billion", "b", "bn"), (("billion", "billion"), "")),
           "trillion": (("trillion", "trillion"), "")},
    "es": {"mil": (("mil", "mil"), ""),
           **dict.fromkeys(("millón", "millones"), (("millón", "millones"), "de"))},
    "fr": {**dict.fromkeys(("million", "millions", "m"), (("million", "millions"), "de")),
           **dict.fromkeys(("milliard", "milliards"), (("milliard", "milliards"), "de"))},
    "it": {"mila": (("mila", "mila"), ""),
           **dict.fromkeys(("milione", "milioni"), (("milione", "milioni"), "di")),
           **dict.fromkeys(("miliardo", "miliardi"), (("miliardo", "miliardi"), "di"))},
    "ru": {"тыс.": (("тысяча", "тысячи", "тысяч"), ""),
           "млн": (("миллион", "миллиона", "миллионов"), ""),
           "млрд": (("миллиард", "миллиарда", "миллиардов"), "")},
}

# unit -> noun forms; all are masculine or neuter
UNITS: dict[str, dict[str, tuple[str, ...]]] = {
    "de": {"km/h": ("stundenkilometer",), "km": ("kilometer",), "cm": ("zentimeter",),
           "mm": ("millimeter",), "kg": ("kilogramm",), "°c": ("grad celsius",)},
    "en": {"km/h": ("kilometer per hour", "kilometers per hour"),
           "mph": ("mile per hour", "miles per hour"), "km": ("kilometer", "kilometers"),
           "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"),
           "kg": ("kilogram", "kilograms"), "°c": ("degree celsius", "degrees celsius"),
           "°f": ("degree fahrenheit", "degrees fahrenheit")},
    "es": {"km/h": ("kilómetro por hora", "kilómetros por hora"),
           "km": ("kilómetro", "kilómetros"), "cm": ("centímetro", "centímetros"),
           "mm": ("milímetro", "milímetros"), "kg": ("kilogramo", "kilogramos"),
           "°c": ("grado centígrado", "grados centígrados")},
    "fr": {"km/h": ("kilomètre heure", "kilomètres heure"), "km": ("kilomètre", "kilomètres"),
           "cm": ("centimètre", "centimètres"), "mm": ("millimètre", "millimètres"),
           "kg": ("kilogramme", "kilogrammes"), "°c": ("degré celsius", "degrés celsius")},
    "it": {"km/h": ("chilometro orario", "chilometri orari"), "km": ("chilometro", "chilometri"),
           "cm": ("centimetro", "centimetri"), "mm": ("millimetro", "millimetri"),
           "kg": ("chilogrammo", "chilogrammi"), "°c": ("grado centigrado", "gradi centigradi")},
    "ru": {"км/ч": ("километр в час", "километра в час", "километров в час"),
           "км": ("километр", "километра", "километров"),
           "см": ("сантиметр", "сантиметра", "сантиметров"),
           "мм": ("миллиметр", "миллиметра", "миллиметров"),
           "кг": ("килограмм", "килограмма", "килограммов"),
           "%": ("процент", "процента", "процентов"),
           "°c": ("градус цельсия", "градуса цельсия", "градусов цельсия")},
}

FRACTIONS: dict[str, dict[str, str]] = {
    lang: dict(zip(("1/2", "1/3", "2/3", "1/4", "3/4"), words.split(", "), strict=True))
    for lang, words in {
        "de": "ein halb, ein drittel, zwei drittel, ein viertel, drei viertel",
        "en": "one half, one third, two thirds, one quarter, three quarters",
        "es": "un medio, un tercio, dos tercios, un cuarto, tres cuartos",
        "fr": "un demi, un tiers, deux tiers, un quart, trois quarts",
        "it": "un mezzo, un terzo, due terzi, un quarto, tre quarti",
        "ru": "одна вторая, одна треть, две трети, одна четверть, три четверти"}.items()}

# one: before a unit; to: between the ends of a range
WORDS: dict[str, dict[str, str]] = {
    "de": {"minus": "minus", "point": "komma", "one": "ein", "to": "bis"},
    "en": {"minus": "minus", "point": "point", "one": "one", "to": "to"},
    "es": {"minus": "menos", "point": "coma", "one": "un", "to": "a"},
    "fr": {"minus": "moins", "point": "virgule", "one": "un", "to": "à"},
    "it": {"minus": "meno", "point": "virgola", "one": "un", "to": "a"},
    "ru": {"minus": "минус", "one": "один", "to": ""},
}

THOUSANDS = {"de": ".", "en": ",", "es": ".", "it": ".", "fr": " \u00a0\u202f",
             "ru": " \u00a0\u202f"}
ORDINALS = {
    "en": r"(\d+)(?:st|nd|rd|th)\b", "es": r"(\d+)\.?(?:º|ª|er\b|°)", "it": r"(\d+)(?:º|ª|°)",
    "fr": r"(\d+)(?:ers?|(è?res?)|[èe]?mes?|ndes?|nds?|es?)\b",
    "ru": r"(\d+)-(ы[йх]|ой|[йхмя]|ая|о?е|о?го|о?му|ом|ые)\b(?=(\s+год[ыа])?)"}
# Russian endings other than the masculine nominative -> arguments of num2words
RUSSIAN_ENDINGS: dict[str, dict[str, str | bool]] = {
    **dict.fromkeys(("я", "ая"), {"gender": "f"}), **dict.fromkeys(("е", "ое"), {"gender": "n"}),
    **dict.fromkeys(("го", "ого"), {"case": "g"}), **dict.fromkeys(("му", "ому"), {"case": "d"}),
    **dict.fromkeys(("м", "ом"), {"case": "p"}), "ые": {"plural": True},
    **dict.fromkeys(("х", "ых"), {"plural": True, "case": "g"})}

# month names as written in a date; alternatives after the first are input only
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

# (pattern of a year in context, word after it -> its spoken form and the case of the year)
YEARS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "de": (rf"\b((?:in|im jahre?|seit|bis|vor|nach|anno|{'|'.join(DATES['de'])})\s+)"
           r"(1[1-9]\d\d)()(?![\w.,]*\d|\s*[€$£%])", {}),
    "en": (rf"\b((?:in|since|until|before|after|year|{'|'.join(DATES['en'])})\s+)"
           r"(1[1-9]\d\d|20\d\d)()"
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
