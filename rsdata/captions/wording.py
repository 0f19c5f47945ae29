"""The words that captions state facts in, shared by those who write them and by the check that reads them back.

A class is named as its nomenclature names it, save that its first letter is small inside a sentence; nothing
is shortened, so the check can find it again. Shares are whole percentages or one of a few fixed phrases, each
of which stands for a range.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

UNCLASSIFIED = "unclassified land"  # how the share that no class covers is named

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class SharePhrase:
    """A fixed phrase for a range of shares."""

    text: str  # as it is written before "this patch"
    pattern: str  # as it is read, any case
    low: float  # smallest share it may stand for, 0 to 1
    high: float  # largest

    def allows(self, share: float) -> bool:
        return self.low <= share <= self.high


SHARE_PHRASES = (
    SharePhrase("nearly all of", r"(?:nearly|almost) all of", 0.90, 1.00),
    SharePhrase("about three quarters of", r"three[- ]quarters(?: of)?", 0.70, 0.80),
    SharePhrase("about two thirds of", r"two[- ]thirds(?: of)?", 0.62, 0.71),
    SharePhrase("about half of", r"half(?: of)?", 0.45, 0.55),
    SharePhrase("about a third of", r"(?:a|one)[- ]third(?: of)?", 0.29, 0.38),
    SharePhrase("about a quarter of", r"(?:a|one)[- ]quarter(?: of)?", 0.21, 0.29),
    SharePhrase("about a tenth of", r"(?:a|one)[- ]tenth(?: of)?", 0.08, 0.12),
    SharePhrase("most of", r"most of", 0.50, 1.00),
)

# Season to the words that mean it; "fall" means autumn only where no verb can stand.
SEASON_WORDS: dict[str, str] = {
    "winter": r"winter|wintertime|wint(?:e)?ry",
    "spring": r"spring|springtime",
    "summer": r"summer|summertime|summery",
    "autumn": r"autumn|autumnal|(?:(?<=in )|(?<=during )|(?<=the )|(?<=early )|(?<=late )|(?<=a ))fall",
}

# Sensor short name to the words that mean it.
SENSOR_WORDS: dict[str, str] = {
    "s1": r"sentinel[- ]?1[a-d]?|sar|radar",
    "s2": r"sentinel[- ]?2[a-d]?|optical|multispectral",
}

# Words that say the class after them covers more than any other.
DOMINANCE_WORDS = r"dominated by|mainly|mostly|chiefly|predominantly|the largest part of it is"

# Country names that take "the" in a sentence.
_WITH_ARTICLE = re.compile(
    r"(?:Federal |Democratic |Central African |Czech |Dominican )?(?:Republic|Kingdom|State|Principality|Union)\b.*|United .*|.* Islands"
    r"|Bahamas|Comoros|Gambia|Maldives|Netherlands|Philippines|Seychelles|Vatican"
)

# Names that, if stated, must be the patch's own country. Source: the member and observer states of the UN, with
# other names in common use, and Kosovo, Palestine and Taiwan.
COUNTRIES = (
    "Afghanistan", "Albania", "Algeria", "Andorra", "Angola", "Antigua and Barbuda", "Argentina", "Armenia", "Australia",
    "Austria", "Azerbaijan", "Bahamas", "Bahrain", "Bangladesh", "Barbados", "Belarus", "Belgium", "Belize", "Benin",
    "Bhutan", "Bolivia", "Bosnia and Herzegovina", "Botswana", "Brazil", "Brunei", "Bulgaria", "Burkina Faso", "Burundi",
    "Cabo Verde", "Cambodia", "Cameroon", "Canada", "Cape Verde", "Central African Republic", "Chad", "Chile", "China",
    "Colombia", "Comoros", "Costa Rica", "Croatia", "Cuba", "Cyprus", "Czech Republic", "Czechia", "Côte d'Ivoire",
    "Democratic Republic of the Congo", "Denmark", "Djibouti", "Dominica", "Dominican Republic", "Ecuador", "Egypt",
    "El Salvador", "Equatorial Guinea", "Eritrea", "Estonia", "Eswatini", "Ethiopia", "Fiji", "Finland", "France", "Gabon",
    "Gambia", "Georgia", "Germany", "Ghana", "Great Britain", "Greece", "Greenland", "Grenada", "Guatemala", "Guinea",
    "Guinea-Bissau", "Guyana", "Haiti", "Honduras", "Hungary", "Iceland", "India", "Indonesia", "Iran", "Iraq", "Ireland",
    "Israel", "Italy", "Ivory Coast", "Jamaica", "Japan", "Jordan", "Kazakhstan", "Kenya", "Kiribati", "Kosovo", "Kuwait",
    "Kyrgyzstan", "Laos", "Latvia", "Lebanon", "Lesotho", "Liberia", "Libya", "Liechtenstein", "Lithuania", "Luxembourg",
    "Madagascar", "Malawi", "Malaysia", "Maldives", "Mali", "Malta", "Marshall Islands", "Mauritania", "Mauritius",
    "Mexico", "Micronesia", "Moldova", "Monaco", "Mongolia", "Montenegro", "Morocco", "Mozambique", "Myanmar", "Namibia",
    "Nauru", "Nepal", "Netherlands", "New Zealand", "Nicaragua", "Niger", "Nigeria", "North Korea", "North Macedonia",
    "Northern Ireland", "Norway", "Oman", "Pakistan", "Palau", "Palestine", "Panama", "Papua New Guinea", "Paraguay", "Peru",
    "Philippines", "Poland", "Portugal", "Qatar", "Republic of the Congo", "Romania", "Russia", "Rwanda",
    "Saint Kitts and Nevis", "Saint Lucia", "Saint Vincent and the Grenadines", "Samoa", "San Marino",
    "Saudi Arabia", "Scotland", "Senegal", "Serbia", "Seychelles", "Sierra Leone", "Singapore", "Slovakia", "Slovenia",
    "Solomon Islands", "Somalia", "South Africa", "South Korea", "South Sudan", "Spain", "Sri Lanka", "Sudan", "Suriname",
    "Sweden", "Switzerland", "Syria", "São Tomé and Príncipe", "Taiwan", "Tajikistan", "Tanzania", "Thailand",
    "Timor-Leste", "Togo", "Tonga", "Trinidad and Tobago", "Tunisia", "Turkey", "Turkmenistan", "Tuvalu", "Türkiye",
    "Uganda", "Ukraine", "United Arab Emirates", "United Kingdom", "United States", "United States of America",
    "Uruguay", "Uzbekistan", "Vanuatu", "Vatican", "Venezuela", "Vietnam", "Wales", "Yemen", "Zambia", "Zimbabwe",
)  # fmt: skip


def class_in_sentence(name: str) -> str:
    """A class name as it stands inside a sentence: small first letter, unless it opens an abbreviation."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def country_in_sentence(name: str) -> str:
    """A country's name with its article, such as "the Netherlands"."""
    return f"the {name}" if _WITH_ARTICLE.fullmatch(name) else name


def percent(share: float) -> str:
    """A share in whole percent, such as "45%"; the ends are given as bounds, so no class has all or nothing by rounding."""
    if share >= 1:
        return "100%"
    if share > 0.99:
        return "more than 99%"
    if share < 0.01:
        return "less than 1%"
    return f"{int(share * 100 + 0.5)}%"


def share_phrase(share: float) -> str | None:
    """The phrase for a share, or None where none fits."""
    return next((phrase.text for phrase in SHARE_PHRASES if phrase.allows(share)), None)


def enumerate_items(items: Sequence[str]) -> str:
    """Join items as a list in a sentence; with semicolons if a comma is part of one of them."""
    if len(items) < 2:
        return "".join(items)
    if any("," in item for item in items):
        return f"{'; '.join(items[:-1])}; and {items[-1]}"
    if len(items) == 2:
        return f"{items[0]} and {items[1]}"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def class_pattern(name: str) -> str:
    """Regular expression for a class name in a text: any case, spacing, hyphen and comma, singular or plural.

    A comma may also be read as "and": "beaches, dunes and sands" names "Beaches, dunes, sands".
    """
    parts = re.split(r"(\W+)", name.strip())
    return "".join(_separator(part) if index % 2 else _word(part) for index, part in enumerate(parts))


def _word(word: str) -> str:
    if not word.isalpha() or len(word) < 3:
        return re.escape(word)
    return re.escape(word[:-1] if word.endswith("s") and not word.endswith("ss") else word) + "s?"


def _separator(text: str) -> str:
    if text.strip() in {"-", "\u2010", "\u2011", "\u2013"}:
        return r"[\s\u2010-\u2015-]?"
    if "," in text:
        return r"(?:\s*,\s*(?:(?:and|or)\s+)?|\s+(?:(?:and|or)\s+)?)"
    return r"[\s\u2010-\u2015-]+" if not text.strip() else r"\s*".join(re.escape(part) for part in re.split(r"\s+", text))
