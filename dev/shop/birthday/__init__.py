"""The code of AmazonQBirthdayDemoLambda, as it is deployed. It imports nothing of this repository."""
