from config.memory import few_arenas, small_tables

# Every process of the product comes by here before it starts a thread or imports anything large.
few_arenas()
small_tables()
