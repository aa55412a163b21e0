//! Failures of names, addresses and connections.

use super::*;

#[tokio::test]
async fn each_failure_of_the_network_is_named_in_each_place() {
    let mut all = Vec::new();
    both(&mut all, "refused", "connection-refused", NO_WAIT, || {
        Box::pin(async {
            // Bound and not listening: nobody else gets the port.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let url = format!("https://{}", socket.local_addr().unwrap());
            std::mem::forget(socket);
            (url, String::new())
        })
    });
    both(&mut all, "reset", "connection-reset", NO_WAIT, || {
        Box::pin(async {
            let address = serve(|stream| async move {
                let _ = stream.set_zero_linger();
            });
            (
                format!("https://localhost:{}", address.await.port()),
                String::new(),
            )
        })
    });
    both(&mut all, "unknown name", "name-not-found", "", || {
        Box::pin(async { ("https://no-such-host.invalid".to_owned(), String::new()) })
    });
    both(&mut all, "black hole", "connection-timed-out", NO_WAIT, || {
        Box::pin(black_hole())
    });
    assert_each_is_reported(all).await;
}

/// A listener whose queue is full: the system drops what else connects.
async fn black_hole() -> (String, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        held.push(stream.unwrap());
    }
    std::mem::forget((listener, held));
    (format!("https://{address}"), String::new())
}
