"""ShopSmart's birthday service on the simulated AWS: the function, its traffic, and what can be broken in it."""
