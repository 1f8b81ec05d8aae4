//! Certificates for one test, and a server that speaks TLS with them.

use std::{path::PathBuf, sync::Arc};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// A certificate for `localhost` that signs itself; its file is gone with it.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) acceptor: TlsAcceptor,
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Certificate {
    pub(crate) fn new(test: &str) -> Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = std::env::temp_dir().join(format!("sub2api-e2e-{test}-{}.pem", std::process::id()));
        std::fs::write(&file, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Certificate { file, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// TLS in front of a plain server; returns its port.
    pub(crate) async fn in_front_of(&self, address: std::net::SocketAddr) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut inner) = acceptor.accept(stream).await else { return };
                    let Ok(mut plain) = TcpStream::connect(address).await else { return };
                    let _ = copy_bidirectional(&mut inner, &mut plain).await;
                });
            }
        });
        port
    }
}
