from collections.abc import Callable, Hashable, Iterable


def distinct(wanted: Iterable[str], identity: Callable[[str], Hashable] = str) -> list[str]:
    """The names as wanted, but a name that was there before gets the first free number: dog, dog-2, dog-3.

    A number never takes the name of another: dog, dog, dog-2 become dog, dog-3, dog-2.

    Args:
        wanted: names, in the order in which they get them.
        identity: what must differ between two names.
    """
    wanted = list(wanted)
    taken = {identity(name) for name in wanted}
    given: set[Hashable] = set()
    numbers: dict[Hashable, int] = {}
    names = []
    for name in wanted:
        key, candidate = identity(name), name
        if key in given:
            while identity(candidate) in taken:
                numbers[key] = numbers.get(key, 1) + 1
                candidate = f"{name}-{numbers[key]}"
            taken.add(identity(candidate))
        given.add(key)
        names.append(candidate)
    return names
