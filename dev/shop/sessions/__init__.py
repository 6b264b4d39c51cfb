"""The sessions of ShopSmart's web tier: a cache of two nodes, application hosts that use it, and what can go wrong."""
