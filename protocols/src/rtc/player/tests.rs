//! str0m as a viewing client, on virtual time, through ICE, DTLS and SRTP.
