import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;

/**
 * A caller written with HttpURLConnection, which every Java has had since 1.1.
 *
 * <p>Usage: {@code UrlConnection.java METHOD URL BYTES …}, three words a request; BYTES of a ticket are
 * pushed where it is not 0. Prints status and text of each answer, for the test to judge.
 */
public class UrlConnection {
    public static void main(String[] words) throws Exception {
        for (int at = 0; at < words.length; at += 3) {
            call(words[at], new URL(words[at + 1]), Integer.parseInt(words[at + 2]));
        }
    }

    private static void call(String method, URL url, int bytes) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setRequestMethod(method);
        connection.setReadTimeout(20_000);
        if (bytes > 0) {
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setDoOutput(true);
            try (OutputStream out = connection.getOutputStream()) {
                out.write(ticket(bytes));
            }
        }
        int status = connection.getResponseCode();
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            System.out.println(status + " " + new String(in.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    private static byte[] ticket(int bytes) {
        String text = "{\"Calls\":{\"CustCallID\":\"INC4\",\"Description\":\"" + "x".repeat(bytes) + "\"}}";
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
