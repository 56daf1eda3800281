"""What runs in the peers' own environments, never in ours: each file is a program or a module of one there."""
