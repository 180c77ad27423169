"""Lists of English words: those that state no value, and closed classes, whose members are alternatives of one another."""

_STOP_WORDS = """
a about above after again all also although am an and any are aren't as at be because been before being below between
both but by can cannot can't could couldn't did didn't do does doesn't doing don't done down during each either else
ever every few for from further get gets give given gives got had hadn't has hasn't have haven't having he hence her
here hers him his how however i if in indeed into is isn't it it's its itself just let let's may me might more most
must my neither nor not nothing none now of off ok okay on once only onto or other our ours out over own per please
same shall she should so some still such than that that's the their theirs them then there there's thereby therefore
these they this those though through thus to too under unless until up upon us very was wasn't we well were weren't
what when where whether which while who whom whose why will with within without won't would wouldn't yet you your
yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
# Words that follow the name of an option, such as "A is right", and never the article "a".
AFTER_OPTION = frozenset({"is", "was", "or", "and", "must", "can", "may", "would", "should", "because"})

_NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand
"""
CLOSED_CLASSES = {
    "yes or no": "yes no",
    "true or false": "true false",
    "number word": _NUMBER_WORDS,
    "weekday": "monday tuesday wednesday thursday friday saturday sunday",
    "short weekday": "mon tue wed thu fri sat sun",
    "month": "january february march april may june july august september october november december",
    "short month": "jan feb mar apr jun jul aug sep oct nov dec",
}
CAPITALISED = ("weekday", "short weekday", "month", "short month")  # "march" and "sun" are other words
