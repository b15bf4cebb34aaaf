"""Optional contracts: the answer is that of a plain protocol, and a class is looked at once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from cnm.ability import Ability
from cnm.driverapi import OnWire
from cnm.ipamapi import IpamCapable


@runtime_checkable
class _Walks(Protocol, metaclass=Ability):
    def walk(self) -> int: ...


@runtime_checkable
class _Flies(Protocol, metaclass=Ability):
    def fly(self) -> int: ...


class _Duck:
    def walk(self) -> int:
        return 1

    def fly(self) -> int:
        return 2


class _Fish:
    looked_at = 0

    def __getattr__(self, name: str) -> object:
        type(self).looked_at += 1
        raise AttributeError(name)


class _Flying(_Fish):
    def fly(self) -> int:
        return 3


def test_each_contract_has_its_own_answer_for_a_class() -> None:
    for _ in range(2):
        assert isinstance(_Duck(), _Walks)
        assert isinstance(_Duck(), _Flies)
        assert not isinstance(_Fish(), _Walks)
        assert not isinstance(_Flying(), _Walks)
        assert isinstance(_Flying(), _Flies)


def test_a_class_is_looked_at_once() -> None:
    assert not isinstance(_Fish(), _Flies)
    looked_at = _Fish.looked_at
    assert not isinstance(_Fish(), _Flies)
    assert _Fish.looked_at == looked_at


def test_a_subclass_is_asked_for_itself() -> None:
    assert not isinstance(_Fish(), _Walks)

    class Walking(_Fish):
        def walk(self) -> int:
            return 4

    assert isinstance(Walking(), _Walks)


def test_contracts_of_drivers_remember() -> None:
    assert type(OnWire) is Ability
    assert type(IpamCapable) is Ability
