package cluster

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/matryer/is"
)

func TestReasonFitsTheLog(t *testing.T) {
	for _, text := range []string{"", "plain", strings.Repeat("a", maxText-1) + "é", strings.Repeat("é", maxText), "\xff\xfe broken", strings.Repeat("\xff", 2*maxText)} {
		is := is.New(t)
		reason := Reason(text)
		is.True(len(reason) <= maxText)
		is.True(utf8.ValidString(reason))
		data, err := Command{Time: time.Unix(1, 0), Body: EngineDied{Rank: 1, Message: reason}}.Encode()
		is.NoErr(err)
		_, err = DecodeCommand(data)
		is.NoErr(err) // what is written can be read
	}
}

func TestWhatCannotBeReadIsNotWritten(t *testing.T) {
	is := is.New(t)
	_, err := Command{Time: time.Unix(1, 0), Body: UpdateMembers{Updates: []StateUpdate{{Rank: 1, State: StateErrored, Info: "\xff"}}}}.Encode()
	is.True(err != nil)
	_, err = Command{Time: time.Unix(1, 0), ID: "\xff", Body: IncMapVersion{}}.Encode()
	is.True(err != nil)
}
