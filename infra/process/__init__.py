"""The operating system process: environment, signals, memory and watchdog."""
