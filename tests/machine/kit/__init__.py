"""What tests in the machine share: users, apps, units, faked GPUs, SDKs, and the search for leaks."""
