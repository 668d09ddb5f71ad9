"""How results look on a page: charts, tables, claims."""
