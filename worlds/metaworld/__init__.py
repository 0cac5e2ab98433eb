"""Meta-World (Yu et al. 2019) by the protocol of AVDC (Ko et al. 2023): eleven tasks, three cameras, scenes by seed."""
