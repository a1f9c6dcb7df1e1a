# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA exchanges for a while, and how it is given back.

One rule for weights, rates, attributes and train functions: before SWA gives a value
back it looks at the one that is there now. If that is not SWA's, the user has changed
it, and it stays.
"""

import operator

__all__ = ["ABSENT", "Loan", "Attributes"]

ABSENT = object()  # the value of an attribute that is not there


class Loan:
    """A value of the user's that SWA replaces for a while.

    Args:
      read: function () -> the value now.
      write: function of a value.
      is_same: function (value now, value of SWA's) -> bool.

    Attributes:
      is_open: bool, whether there is something to give back.
      before: the value that was there when the loan was opened.
      ours: list of values of SWA's, of which any may be there now.
    """

    def __init__(self, read, write, is_same):
        self._read, self._write, self._is_same = read, write, is_same
        self.forget()

    def open(self, before):
        """Notes the value that is to be given back."""
        self.is_open, self.before, self.ours = True, before, []

    def forget(self):
        """Forgets the value from before; the current one stays."""
        self.is_open, self.before, self.ours = False, None, []

    def put(self, value):
        """Sets the value; the first one opens the loan with what was there."""
        if not self.is_open:
            self.open(self._read())
        # in `ours` already while it is written, because a Ctrl-C may come then
        self.ours = [*self.ours, value]
        self._write(value)
        self.ours = [value]

    def is_ours(self):
        """Whether the value now is one of SWA's."""
        now = self._read()
        return any(self._is_same(now, value) for value in self.ours)

    def give_back(self, also_ours=()):
        """Sets the value from before, unless the user has set another one meanwhile.

        Args:
          also_ours: sequence of further values of SWA's that may be there now.
        """
        self.ours = [*self.ours, *also_ours]
        if self.is_open and self.is_ours():
            self._write(self.before)
        self.forget()


class Attributes:
    """Attributes of objects that SWA has exchanged."""

    def __init__(self):
        self._loans = []

    def put(self, owner, name, value):
        """Sets an attribute.

        It is written to the owner's `__dict__`, because Keras's `__setattr__` would
        track variables in it.

        Args:
          owner: the object.
          name: str.
          value: of the attribute.
        """
        attributes = vars(owner)

        def write(new):
            if new is ABSENT:
                del attributes[name]
            else:
                attributes[name] = new

        loan = Loan(lambda: attributes.get(name, ABSENT), write, operator.is_)
        self._loans.append(loan)
        loan.put(value)

    def give_back(self):
        """Gives all attributes back, the last one first."""
        while self._loans:
            self._loans[-1].give_back()
            self._loans.pop()
