//! The gRPC interface, package `moat.accounts.v1`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::account::Account;
use crate::money::Money;
use crate::proto::accounts_server::{Accounts, AccountsServer};
use crate::proto::{
    self, BalanceChange, DepositEntry, DepositSummary, ExpectedBalance, GetAccountRequest,
    Reconciled, WatchRequest, reconciled::Verdict,
};
use crate::rest::BODY_BYTES_MAX;
use crate::store::{Change, Store, StoreError};

/// Most entries of one deposit, which is one transaction.
const ENTRIES_MAX: usize = 1000;
/// Most messages waiting for a slow reader of a stream.
const WAITING_MAX: usize = 16;

/// The service behind the generated one.
#[derive(Clone, Debug)]
pub struct Service {
    store: Arc<Store>,
    stopping: watch::Receiver<bool>,
}

/// The service, ready to be called. Its watches end when `stopping` becomes true.
#[must_use]
pub fn service(store: Arc<Store>, stopping: watch::Receiver<bool>) -> AccountsServer<Service> {
    AccountsServer::new(Service { store, stopping })
        .max_decoding_message_size(BODY_BYTES_MAX)
        .max_encoding_message_size(BODY_BYTES_MAX)
}

/// A stream fed by a task of its own.
#[derive(Debug)]
pub struct Fed<T>(mpsc::Receiver<Result<T, Status>>);

impl<T> Stream for Fed<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

type Sender<T> = mpsc::Sender<Result<T, Status>>;

impl Service {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        let broken = || Status::internal("the book cannot be read or written");
        done.map_err(|_| broken())?.map_err(|_| broken())
    }

    async fn account(&self, id: String) -> Result<Account, Status> {
        let found = self.blocking(move |store| store.account(&id)).await?;
        found.ok_or_else(|| Status::not_found("there is no such account"))
    }

    /// Sends changes until the reader goes, falls behind, or the service stops.
    async fn follow(mut self, id: String, to: Sender<BalanceChange>) -> Result<(), Status> {
        // Listening before reading: a change in between is sent twice rather than lost.
        let mut changes = self.store.watch();
        if !id.is_empty() {
            let account = self.account(id.clone()).await?;
            let balance_minor = account.balance_minor;
            let _ = to.send(Ok(BalanceChange { id: id.clone(), balance_minor, sequence: 0 })).await;
        }
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return Err(Status::unavailable("the service is stopping"));
                }
                () = to.closed() => return Ok(()),
            };
            match change {
                Ok(Change { id: changed, balance_minor, sequence })
                    if id.is_empty() || id == changed =>
                {
                    let change = BalanceChange { id: changed, balance_minor, sequence };
                    let _ = to.send(Ok(change)).await;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Err(Status::data_loss("you fell behind")),
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn compare(&self, expected: ExpectedBalance) -> Result<Reconciled, Status> {
        let ExpectedBalance { id, balance_minor } = expected;
        let wanted = id.clone();
        let found = self.blocking(move |store| store.account(&wanted)).await?;
        let (verdict, balance_minor) = match found.map(|account| account.balance_minor) {
            None => (Verdict::UnknownAccount, 0),
            Some(balance) if balance == balance_minor => (Verdict::Match, balance),
            Some(balance) => (Verdict::Mismatch, balance),
        };
        Ok(Reconciled { id, verdict: verdict.into(), balance_minor })
    }

    async fn reconcile_all(
        &self,
        mut from: Streaming<ExpectedBalance>,
        to: &Sender<Reconciled>,
    ) -> Result<(), Status> {
        while let Some(expected) = from.message().await? {
            let answer = self.compare(expected).await?;
            if to.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Accounts for Service {
    type WatchStream = Fed<BalanceChange>;
    type ReconcileStream = Fed<Reconciled>;

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<proto::Account>, Status> {
        let account = self.account(request.into_inner().id).await?;
        let owner = account.owner;
        Ok(Response::new(proto::Account {
            id: account.id,
            owner: Some(proto::Owner {
                name: owner.name,
                id_card: owner.id_card,
                mobile: owner.mobile,
                email: owner.email,
                address: owner.address,
            }),
            card: account.card,
            currency: account.currency,
            balance_minor: account.balance_minor,
        }))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (to, fed) = mpsc::channel(WAITING_MAX);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.follow(request.into_inner().id, to.clone()).await {
                let _ = to.send(Err(status)).await;
            }
        });
        Ok(Response::new(Fed(fed)))
    }

    async fn deposit(
        &self,
        request: Request<Streaming<DepositEntry>>,
    ) -> Result<Response<DepositSummary>, Status> {
        let mut from = request.into_inner();
        let mut entries = Vec::new();
        while let Some(DepositEntry { id, amount_minor }) = from.message().await? {
            let amount = Money::from_minor(amount_minor).filter(|amount| amount.minor() > 0);
            let amount = amount.ok_or_else(|| Status::invalid_argument("amounts are positive"))?;
            if entries.len() >= ENTRIES_MAX {
                return Err(Status::resource_exhausted("more than 1000 entries"));
            }
            entries.push((id, amount));
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let total = self.blocking(move |store| store.deposit(&entries)).await?;
        let total = total.ok_or_else(|| {
            Status::failed_precondition("an account is unknown or would hold too much")
        })?;
        Ok(Response::new(DepositSummary { entries: count, total_minor: total.minor() }))
    }

    async fn reconcile(
        &self,
        request: Request<Streaming<ExpectedBalance>>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let (to, fed) = mpsc::channel(WAITING_MAX);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.reconcile_all(request.into_inner(), &to).await {
                let _ = to.send(Err(status)).await;
            }
        });
        Ok(Response::new(Fed(fed)))
    }
}
