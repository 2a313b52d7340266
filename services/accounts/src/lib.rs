//! A small accounts service: the kind of service that stands behind the gateway.
//!
//! HTTP/JSON and gRPC on one port, mutual TLS 1.3 only, one allowed caller. Balances lie in an
//! embedded ACID store; a transfer changes two of them in one transaction or none.
//!
//! It decides nothing about who may see what: it trusts its one caller, the gateway, and refuses
//! everybody else.
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::string_slice,
        reason = "tests"
    )
)]

pub mod account;
pub mod grpc;
pub mod money;
pub mod problem;
pub mod rest;
pub mod serve;
pub mod store;
pub mod tls;

/// The gRPC interface, generated from `proto/accounts.proto`.
pub mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::wildcard_imports,
        clippy::needless_pass_by_value,
        reason = "generated code"
    )]
    tonic::include_proto!("moat.accounts.v1");
}
