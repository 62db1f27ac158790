//! Killed at random times: the work ends with the bytes of an undisturbed run.
