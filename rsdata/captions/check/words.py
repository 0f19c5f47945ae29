"""Words that build sentences, by the part they play in them; in small letters."""

from rsdata.captions.check.statements import Degree, Scope


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENDS = _set(". ! ?")
# What an amount does not reach across
CLAUSE_END = _set(", ; : ( ) – -- and but while whereas plus with or although though because")
MARKS = _set(", ; : . ! ? ( ) - – & / ' \" …")
# Between the members of a list
JOINS = _set(
    ", ; and or nor plus & / as well both a an the some any also of areas area patches stretches land then either parts small "
    "smaller large larger"
)
SEPARATORS = _set(", ; and or nor plus & / as")
# After a member of a list they begin a clause of their own
VERBS = _set(
    "is are was were cover covers occupy occupies take takes make makes lie lies sit sits stretch stretches extend extends fill "
    "fills account accounts form forms represent represents dominate dominates border borders touch touches adjoin adjoins abut "
    "abuts meet meets neighbour neighbours neighbor neighbors has have hold holds constitute constitutes comprise comprises show "
    "shows contain contains include includes surround surrounds covering appears appear occurs occur consists consist remains "
    "remain prevails prevail exceeds exceed flank flanks shares share"
)
# Before a list they make it an object
GOVERNS = VERBS | _set(
    "by of shows showing depicts displays features contains containing including bordering adjoining touching beside alongside "
    "along near next adjacent mainly mostly chiefly predominantly largely primarily from to reveals comprising covered composed "
    "bordered surrounded"
)
# After a comma they go on about what stands before it
CARRIES = _set(
    "which that covering occupying making taking accounting comprising filling holding forming with found located situated lying seen"
)
NOT = _set("not never cannot")
NO = _set("no without neither nor lacks lack lacking devoid absence free")
# Between a no and what it denies
NEGATION_GAP = _set(
    "any the a an visible other trace traces of areas area or either sign signs patches land kind sort at all more amount single"
)
# Not … a class
HAVING = _set("contain include show have hold feature exhibit see display host comprise depict reveal contains includes has any")
# A class is not …
BEING = _set("present found visible seen exist occur appear detected here there occurring existing shown")
COPULAS = _set("is are was were do does can be been could did completely entirely")
TOUCH = _set(
    "border borders bordered bordering adjoin adjoins adjoined adjoining adjacent abut abuts abutting touch touches touching "
    "touched neighbour neighbours neighbouring neighboring neighbor neighbors beside alongside meet meets meeting flank flanks "
    "flanked flanking fringe fringes fringed contiguous near nearby boundary along borders' edged"
)
TOUCH_PHRASES = [
    phrase.split()
    for phrase in (
        "next to",
        "right next to",
        "side by side",
        "in contact with",
        "in contact",
        "close to",
        "share a",
        "shares a",
        "sharing a",
    )
]
AROUND = _set("surrounded surrounds surround surrounding enclosed encloses enclosing encircled encircles")
# Of a list whose members share a border
MUTUAL = _set("each other another share shares sharing neighbours neighbors adjacent side together touch meet border contact between")
# Between a border and who has it
TOUCH_GAP = _set(
    "on by to with the a an some both of areas area directly also common border boundary borders edge long short only its and or in "
    "contact side from between run runs other patches land against up onto immediately itself part parts is are were was small "
    "large them which lies lie that there where"
)
# One region; in the plural, with a number, many more words are
REGION = _set(
    "region regions patch patches block blocks piece pieces body bodies stand stands tract tracts fragment fragments cluster clusters"
)
REGIONS = REGION | _set(
    "area areas part parts parcel parcels plot plots zone zones unit units segment segments section sections strip strips expanse "
    "expanses places spots"
)
CLASS_NOUNS = _set("class classes types type categories category kinds kind covers cover uses")
SENSOR_NOUNS = _set("sensors sensor satellites satellite missions mission instruments instrument")
# Between a number and what is counted
COUNT_GAP = _set(
    "separate distinct disconnected individual small large different isolated connected contiguous unconnected main land land-cover "
    "land-use cover use of detached scattered unbroken continuous larger smaller big the various single such"
)
SCATTERED = _set("separate scattered isolated disconnected distinct fragmented dispersed detached")
WHOLE = _set("contiguous continuous single connected unbroken compact undivided")
# Of a region that need not be the largest
SOME = _set("some another part parts partly one small other few partially")
SUPERLATIVES: dict[str, Scope] = {
    "largest": "largest", "biggest": "largest", "larger": "largest", "bigger": "largest", "smallest": "smallest", "smaller": "smaller",
}  # fmt: skip
LOWER_DEGREES: dict[str, Degree] = {
    **dict.fromkeys(("main", "principal", "dominant", "prevailing", "predominant", "leading"), "largest"),
    **dict.fromkeys(("primary", "major", "large", "extensive", "substantial", "considerable", "vast", "big"), "primary"),
    **dict.fromkeys(("marginal", "marginally", "traces", "trace"), "marginal"),
    **dict.fromkeys(("minor", "small", "scarce"), "small"),
    **dict.fromkeys(("smaller", "minority"), "not largest"),
    "secondary": "secondary",
    "majority": "majority",
}
ADVERBS = _set("mainly mostly chiefly predominantly largely primarily")
RULES = _set("dominate dominates dominating prevail prevails predominate predominates")
ORDINALS = {"second": 2, "third": 3, "fourth": 4}
EXCLUSIVE = _set("entirely completely wholly exclusively solely purely fully totally only whole entire all")
INSIDE = _set("in within inside amid amidst among into")
HOLDS = _set("contain contains hold holds host hosts include includes has have containing holding including")
DETERMINERS = _set("a an the some small one two three four five several")
SAME = _set("homogeneous uniform monotonous undiversified")
VARIED = _set("heterogeneous diverse varied mosaic patchwork diversified")
PRONOUNS = _set("they their it its them these which")
# Words that say something about the ground and so must be part of a statement.
MEANINGFUL = frozenset().union(
    NOT, NO, TOUCH, AROUND, SCATTERED, WHOLE, ADVERBS, RULES, EXCLUSIVE, SAME, VARIED, ORDINALS, LOWER_DEGREES,
    _set(
        "none nothing absent missing more less fewer most least than largest biggest greatest smallest larger bigger greater smaller "
        "alone followed exceeds exceed outweighs diversity rest remainder remaining between nowhere no-one edge edges boundaries dominated "
        "half much different various couple number numbers first quarter"
    ),
)  # fmt: skip
MORE = _set("more larger bigger greater")
LESS = _set("less smaller fewer")
ONE_OF_THEM = _set("in the to at on lies lying of them is located")
PERSON_DOES = _set("can could may might finds sees notices observes discovers recognises recognizes")
# Before a direction that begins a sentence
LEADS = _set("in the to at on towards toward far its also most")
