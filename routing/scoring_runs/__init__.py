"""A snapshot scored in parts by several Celery workers, each a share of the scopes; docs/scaling.md, docs/adr/0032."""
