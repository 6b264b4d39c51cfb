"""The network between ShopSmart's tiers: security groups and ACLs that decide who gets through, and who took a rule."""
