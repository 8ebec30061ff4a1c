//! What this host knows of its deployments: plans, journal, volumes, addresses.
