//! The library and the command, beside a fake sidecar and with real processes.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod library;
#[cfg(test)]
mod process;
#[cfg(test)]
mod words;
#[cfg(test)]
mod wrapper;
