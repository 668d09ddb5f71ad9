"""Every way through short documents, read once: then any policy is a walk that reads nothing.

Policies, seeds, budgets and the oracle are compared on the same numbers, and none of them costs
more than its decisions.
"""

from ponderttt.tree.reading import Tree as Tree
from ponderttt.tree.reading import first_nodes as first_nodes
from ponderttt.tree.reading import path_nodes as path_nodes
from ponderttt.tree.reading import read_tree as read_tree
from ponderttt.tree.reading import units_of as units_of
from ponderttt.tree.reading import ways as ways
from ponderttt.tree.walking import expected as expected
from ponderttt.tree.walking import features_at as features_at
from ponderttt.tree.walking import node_units as node_units
from ponderttt.tree.walking import walk as walk
from ponderttt.tree.walking import without_tokens as without_tokens
