"""From a config to ready-made parts: the only files of segcore that read one."""
