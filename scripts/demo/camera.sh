# shellcheck shell=bash
# Pictures of the proxy's page, taken on host B by a Chromium without a window.
# To be sourced after stage.sh.

camera_port=9515

# driver METHOD PATH [JSON]: asks chromedriver, prints the value it answers with.
driver() {
    on B curl --silent --fail --max-time 30 --request "$1" \
        --header 'Content-Type: application/json' ${3:+--data "$3"} \
        "http://127.0.0.1:$camera_port$2"
}

# open_page LOOK URL: shows the page in a browser of its own, which goes on until
# the demo ends. LOOK is light or dark; session[LOOK] is the browser.
declare -A session=()
open_page() {
    local arguments='"--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--hide-scrollbars",
        "--remote-debugging-pipe", "--window-size=1120,680"'
    if [[ $1 == dark ]]; then arguments+=', "--force-dark-mode", "--blink-settings=preferredColorScheme=0"'; fi
    session[$1]=$(driver POST /session "{\"capabilities\": {\"alwaysMatch\": {\"browserName\": \"chrome\",
        \"goog:chromeOptions\": {\"args\": [$arguments]}}}}" | sed -n 's/.*"sessionId":"\([^"]*\)".*/\1/p')
    [[ -n ${session[$1]} ]] || die 'no Chromium can be had' camera.log
    driver POST "/session/${session[$1]}/url" "{\"url\": \"$2\"}" >camera.out || die "$2 cannot be shown" camera.log
}

start_camera() {
    "$here/packages.sh" chromium-driver:chromedriver curl:curl fonts-dejavu-core || exit 1
    TMPDIR=$dir start camera B chromedriver "--port=$camera_port"
    await_from camera 15 answers B 127.0.0.1 "$camera_port" || die 'chromedriver does not start' camera.log
    open_page light "$1"
    open_page dark "$1"
}

# photograph DIRECTORY: writes page-light.png and page-dark.png.
photograph() {
    local look
    for look in light dark; do
        driver GET "/session/${session[$look]}/screenshot" | sed -n 's/.*"value":"\([^"]*\)".*/\1/p' |
            base64 --decode >"$1/page-$look.png"
        [[ -s $1/page-$look.png ]] || die "no picture of the $look page" camera.log
        driver DELETE "/session/${session[$look]}" >camera.out
    done
}
