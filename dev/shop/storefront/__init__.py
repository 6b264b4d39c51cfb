"""The storefront: web instances in an Auto Scaling group behind a load balancer, their customers, and their faults."""
