import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/**
 * A caller written with java.net.http.HttpClient as it comes: it offers {@code Upgrade: h2c}.
 *
 * <p>Usage: {@code ModernClient.java METHOD URL BYTES …}, three words a request; BYTES of a ticket are
 * pushed where it is not 0. Prints version, status and text of each answer, for the test to judge.
 */
public class ModernClient {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int at = 0; at < words.length; at += 3) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(words[at + 1]))
                    .method(words[at], body(Integer.parseInt(words[at + 2])))
                    .timeout(Duration.ofSeconds(20))
                    .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.version() + " " + answer.statusCode() + " " + answer.body());
        }
    }

    private static HttpRequest.BodyPublisher body(int bytes) {
        if (bytes == 0) {
            return HttpRequest.BodyPublishers.noBody();
        }
        String text = "{\"Calls\":{\"CustCallID\":\"INC5\",\"Description\":\"" + "x".repeat(bytes) + "\"}}";
        return HttpRequest.BodyPublishers.ofString(text);
    }
}
